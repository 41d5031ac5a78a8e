package buildinfo

//nolint:gochecknoglobals // Only tests see it.
var (
	LineOf     = line
	RevisionOf = revision
)
