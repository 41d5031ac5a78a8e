// Package archtest holds the direction of the imports between the packages of
// this module: its test fails where a package imports what is above or beside
// it.
package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Package is what the go command lists of one package, its tests apart.
type Package struct {
	ImportPath   string
	Imports      []string
	Deps         []string // Imports, what these import, and so on
	TestImports  []string
	XTestImports []string
}

// Room is a package and its place: what it may import of this module, and what
// it has to do without. Paths of this module are relative to its root.
type Room struct {
	Path string

	// Why is the reason, told with each import that breaks the rule.
	Why string

	// May lists the packages of the module that the code may import, and
	// TestsMay those that its tests may import besides.
	May, TestsMay []string

	// Never lists import paths, and all below each of them, that the code must
	// not depend on: neither itself nor through others.
	Never []string

	// TestOnly says that nothing but tests may import the room, whatever it
	// imports itself.
	TestOnly bool
}

// Violations compares the packages of module with rooms, and returns one
// sentence for each import that a room doesn't allow and for each package that
// has no room.
func Violations(module string, rooms []Room, packages []Package) []string {
	var found []string

	for _, p := range packages {
		path, _ := local(module, p.ImportPath)
		at := slices.IndexFunc(rooms, func(r Room) bool { return r.Path == path })

		if at < 0 {
			found = append(found, path+" has no place among the rooms: say there what it may import, and who may import it")

			continue
		}

		room := rooms[at]
		testsMay := slices.Concat(room.May, room.TestsMay, []string{room.Path})
		found = append(found, room.refused(module, rooms, "imports", p.Imports, room.May)...)
		found = append(found, room.refused(module, rooms, "imports in its tests",
			slices.Concat(p.TestImports, p.XTestImports), testsMay)...)
		found = append(found, room.dependsOn(p.Deps)...)
	}

	slices.Sort(found)

	return slices.Compact(found)
}

// refused says which of imports are none of may.
func (r Room) refused(module string, rooms []Room, how string, imports, may []string) []string {
	if r.TestOnly {
		return nil
	}

	var found []string

	for _, imported := range imports {
		path, ok := local(module, imported)
		if !ok || slices.Contains(may, path) {
			continue
		}

		if how != "imports" && slices.ContainsFunc(rooms, func(o Room) bool { return o.TestOnly && o.Path == path }) {
			continue
		}

		found = append(found, fmt.Sprintf("%s %s %s: of this module it may import %s; %s",
			r.Path, how, path, orNothing(may, r.Path), r.Why))
	}

	return found
}

// dependsOn says which of deps the room has to do without.
func (r Room) dependsOn(deps []string) []string {
	var found []string

	for _, never := range r.Never {
		at := slices.IndexFunc(deps, func(dep string) bool { return within(dep, never) })
		if at >= 0 {
			found = append(found, fmt.Sprintf("%s depends on %s, itself or through what it imports: it has to do without; %s",
				r.Path, deps[at], r.Why))
		}
	}

	return found
}

// local is path relative to the root of module, and whether it is in there.
func local(module, path string) (string, bool) {
	if path == module {
		return ".", true
	}

	return strings.CutPrefix(path, module+"/")
}

func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func orNothing(paths []string, self string) string {
	others := slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p == self })
	if len(others) == 0 {
		return "nothing"
	}

	return strings.Join(others, ", ")
}
