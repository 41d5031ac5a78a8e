package daemon

import (
	"fmt"
	"io/fs"
	"strconv"
)

// FileMode holds a file's permission bits. Its text form is three or four octal digits,
// as for chmod(1), such as 0660.
type FileMode fs.FileMode

// String returns m as four octal digits.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText implements [encoding.TextMarshaler]. It returns [FileMode.String].
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts three octal
// digits, or four that begin with 0.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || len(text) < 3 || len(text) > 4 || n > uint64(fs.ModePerm) {
		return fmt.Errorf("invalid file mode %q; want octal digits such as 0660", text)
	}
	*m = FileMode(n)

	return nil
}
