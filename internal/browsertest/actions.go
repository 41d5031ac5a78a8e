package browsertest

// Sources of input as WebDriver and WebDriver BiDi both describe them.

type object = map[string]any

// clickActions presses and releases the mouse at a point of the viewport.
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

// keyActions presses and releases keys one after the other.
func keyActions(keys string) []object {
	var actions []object

	for _, key := range keys {
		actions = append(actions,
			object{"type": "keyDown", "value": string(key)},
			object{"type": "keyUp", "value": string(key)})
	}

	return []object{{"type": "key", "id": "keyboard", "actions": actions}}
}
