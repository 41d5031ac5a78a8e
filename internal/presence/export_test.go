package presence

import "context"

// AskForever is Ask without a limit but ctx. It returns whose reply was an error.
func (d *Directory) AskForever(ctx context.Context, method string) (failed []string, err error) {
	awaited, _, _ := d.others()
	return d.ask(ctx, method, nil, awaited, func(string, []byte) {})
}
