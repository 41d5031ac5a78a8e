package daemon

import "fmt"

// SettingError is the error for an invalid setting. Its message is one line and
// contains no secret.
type SettingError struct {
	Key      string
	Given    string // describes the value that was given
	Accepted string // describes what is accepted
}

// Error implements error.
func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: given %s; want %s", e.Key, e.Given, e.Accepted)
}
