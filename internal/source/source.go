package source

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Record is a unit that a source delivers, and that becomes at most one message.
//
// The bytes and fields of a Record belong to the Reader again once [Sink.Publish] has
// returned.
type Record struct {
	// Origin is the name of the table, the topic, the stream or the subject that the
	// record comes from.
	Origin string
	// Partition is the unit of order within the source: each partition's records are
	// passed to the Sink in order. It may be empty if there is only one.
	Partition string
	// Offset identifies the record within its source and partition. It MUST be the same
	// each time the record is delivered, and MUST NOT be reused for another record, not
	// even after the source has been emptied or created anew. If the source's own numbers
	// start over in that case, add something that doesn't, such as a creation time.
	Offset string
	// Key is the record's key; nil if it has none.
	Key []byte
	// Value is the record's value; nil if it has none.
	Value []byte
	// Fields are the record's headers, fields or columns. If a name occurs more than
	// once, the last one counts. Columns that are NULL are left out.
	Fields []Field
}

// Field is a header, field or column of a Record.
type Field struct {
	Name, Value string
}

// field returns the value of the field with the given name.
func (r *Record) field(name string) (value string, ok bool) {
	for _, f := range slices.Backward(r.Fields) {
		if f.Name == name {
			return f.Value, true
		}
	}

	return "", false
}

// Reader reads the records of one source.
type Reader interface {
	// Run connects to the source and passes its records to sink until ctx ends or
	// something fails. The Manager calls it again after a failure, with increasing
	// delays. It returns once all of its goroutines have ended and its connections are
	// closed. Its error names what failed, and contains no secret and no content of a
	// record.
	//
	// Run passes each partition's records in order, in one call to [Sink.Publish] at a
	// time. It acknowledges records to the source only after they are settled. If the
	// source doesn't assign each partition to one client, Run makes sure that it is the
	// only active Reader of the source, for example with a lock on the source's server,
	// and calls [Sink.Standby] while another Reader is active. If Publish returns an
	// error, Run acknowledges what is settled, gives up its partitions and its lock so
	// that another node can continue, and returns that error.
	Run(ctx context.Context, sink *Sink) error
}

// Kind holds the settings of one kind of source. A reload restarts a source only if its
// settings differ, as defined by [reflect.DeepEqual].
type Kind interface {
	// Kind returns the kind's name, which is also the key of its settings, such as
	// "postgres".
	Kind() string
	// Validate returns nil if the settings are valid, or a *[SettingError]. It does no
	// I/O.
	Validate() error
	// Schema describes the records of the source.
	Schema() Schema
	// NewReader returns a Reader for the source. It does no I/O.
	NewReader(o Options) Reader
}

// Options holds what a Reader gets in addition to its settings.
type Options struct {
	// Name is the name of the source.
	Name string
	// Node is a name for this process, which no other node of the cluster has.
	Node string
	// Logger already has the source's name as an attribute.
	Logger *slog.Logger
}

// SettingError describes an invalid setting of a source.
type SettingError struct {
	// Field is the setting's key within the source, such as "postgres.table".
	Field string
	// Given is the value, quoted if it is a string. It is "***" for a secret.
	Given string
	// Want describes what is accepted.
	Want string
}

func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: given %s; want %s", e.Field, e.Given, e.Want)
}

// Lag describes what a source still holds for its Reader.
type Lag struct {
	// Records is the number of records that aren't settled yet; negative if unknown.
	Records int64
	// Since is the time at which the oldest of them was written; zero if there is none,
	// or if the time is unknown.
	Since time.Time
}
