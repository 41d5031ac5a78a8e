package daemon

import "fmt"

// SettingError reports an invalid setting. Its message is a single line and contains no
// secrets.
type SettingError struct {
	Key      string
	Given    string // describes the given value
	Accepted string // describes the accepted values
}

// Error implements error.
func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: given %s; want %s", e.Key, e.Given, e.Accepted)
}
