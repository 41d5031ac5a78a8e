package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// webdriver is a client for the HTTP interface of a WebDriver.
type webdriver struct{ base string }

// call sends a command and stores the result in the variable that value points to,
// unless value is nil.
func (w webdriver) call(method, path string, params object, value any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	body, err := json.Marshal(params)
	if err != nil {
		return err
	}

	request, err := http.NewRequestWithContext(ctx, method, w.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}

	defer func() { _ = response.Body.Close() }()

	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}

	var reply struct {
		Value json.RawMessage `json:"value"`
	}

	if err := json.Unmarshal(text, &reply); err != nil {
		return fmt.Errorf("%s %s: %s: %q is not a WebDriver reply", method, path, response.Status, text)
	}

	if response.StatusCode != http.StatusOK {
		var problem struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}

		_ = json.Unmarshal(reply.Value, &problem)

		return fmt.Errorf("%s %s: %s: %s", method, path, problem.Error, problem.Message)
	}

	if value == nil {
		return nil
	}

	return json.Unmarshal(reply.Value, value)
}
