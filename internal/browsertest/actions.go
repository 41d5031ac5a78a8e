package browsertest

// Input sources in the format of WebDriver and WebDriver BiDi.

type object = map[string]any

// clickActions returns the actions for a mouse click at a point in the viewport.
func clickActions(x, y int) []object {
	return []object{{
		"type": "pointer", "id": "mouse", "parameters": object{"pointerType": "mouse"},
		"actions": []object{
			{"type": "pointerMove", "origin": "viewport", "x": x, "y": y, "duration": 0},
			{"type": "pointerDown", "button": 0},
			{"type": "pointerUp", "button": 0},
		},
	}}
}

// keyActions returns the actions for pressing keys one after another.
func keyActions(keys string) []object {
	var actions []object

	for _, key := range keys {
		actions = append(actions,
			object{"type": "keyDown", "value": string(key)},
			object{"type": "keyUp", "value": string(key)})
	}

	return []object{{"type": "key", "id": "keyboard", "actions": actions}}
}
