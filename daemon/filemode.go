package daemon

import (
	"fmt"
	"io/fs"
	"strconv"
)

// FileMode is who may do what with a file. As text it is three octal digits,
// or four, as in chmod(1): 0660.
type FileMode fs.FileMode

// String gives four octal digits.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText is [FileMode.String].
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts three octal digits, or four of which the first is 0.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || len(text) < 3 || len(text) > 4 || n > uint64(fs.ModePerm) {
		return fmt.Errorf("parse file mode: %q is no mode such as 0660", text)
	}
	*m = FileMode(n)
	return nil
}
