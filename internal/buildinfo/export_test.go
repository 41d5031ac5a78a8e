package buildinfo

//nolint:gochecknoglobals // exported for tests only
var (
	LineOf     = line
	RevisionOf = revision
)
