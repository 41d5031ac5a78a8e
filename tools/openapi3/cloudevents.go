package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
)

// cloudEvents describes the operation that accepts CloudEvents. It has no RPC, so the
// generator doesn't know it.
//
//go:embed cloudevents.json
var cloudEvents []byte

// addCloudEvents adds that operation to a Swagger 2.0 document.
func addCloudEvents(document map[string]any) error {
	var operations map[string]any
	if err := json.Unmarshal(cloudEvents, &operations); err != nil {
		return fmt.Errorf("read cloudevents.json: %w", err)
	}

	paths, ok := document["paths"].(map[string]any)
	if !ok {
		return errors.New("the Swagger document has no paths")
	}

	paths["/v1/cloudevents"] = operations

	return nil
}
