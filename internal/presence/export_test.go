package presence

import "context"

// QueryWithoutTimeout is like Query, but without a timeout. It returns the names of
// the nodes that replied with an error.
func (d *Directory) QueryWithoutTimeout(ctx context.Context, method string) (failed []string, err error) {
	awaited, _, _ := d.remoteNodes()
	return d.query(ctx, method, nil, awaited, func(string, []byte) {})
}
