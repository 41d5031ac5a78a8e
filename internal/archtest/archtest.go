// Package archtest enforces the direction of imports between the packages of this
// module. Its test fails if a package imports one above or beside it.
package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Package is a package as listed by the go command.
type Package struct {
	ImportPath   string
	Imports      []string
	Deps         []string // all direct and indirect imports of the code
	TestImports  []string
	XTestImports []string
}

// Rule is the rule for one package. The paths of packages in this module are
// relative to its root.
type Rule struct {
	Path string

	// Why is the reason for the rule. It is part of each violation.
	Why string

	// May lists the packages of the module that the code may import. TestsMay
	// lists those that only its tests may import.
	May, TestsMay []string

	// Never lists import paths that the code must not depend on, directly or
	// indirectly. Each path also stands for all packages below it.
	Never []string

	// TestOnly marks a package that only tests may import. Its own imports are
	// not restricted.
	TestOnly bool
}

// Violations compares the packages of module with rules. It returns a message for
// each import that violates a rule, and for each package without a rule.
func Violations(module string, rules []Rule, packages []Package) []string {
	var found []string

	for _, p := range packages {
		path, _ := local(module, p.ImportPath)
		at := slices.IndexFunc(rules, func(r Rule) bool { return r.Path == path })

		if at < 0 {
			found = append(found, path+" has no rule: add one with the packages that it may import, and allow the packages that import it")

			continue
		}

		rule := rules[at]
		testsMay := slices.Concat(rule.May, rule.TestsMay, []string{rule.Path})
		found = append(found, rule.forbidden(module, rules, "imports", p.Imports, rule.May)...)
		found = append(found, rule.forbidden(module, rules, "imports in its tests",
			slices.Concat(p.TestImports, p.XTestImports), testsMay)...)
		found = append(found, rule.dependsOn(p.Deps)...)
	}

	slices.Sort(found)

	return slices.Compact(found)
}

// forbidden returns the violations for the imports that aren't in may.
func (r Rule) forbidden(module string, rules []Rule, how string, imports, may []string) []string {
	if r.TestOnly {
		return nil
	}

	var found []string

	for _, imported := range imports {
		path, ok := local(module, imported)
		if !ok || slices.Contains(may, path) {
			continue
		}

		if how != "imports" && slices.ContainsFunc(rules, func(o Rule) bool { return o.TestOnly && o.Path == path }) {
			continue
		}

		found = append(found, fmt.Sprintf("%s %s %s: it may import %s from this module; %s",
			r.Path, how, path, orNothing(may, r.Path), r.Why))
	}

	return found
}

// dependsOn returns the violations for the deps that the package must not depend
// on.
func (r Rule) dependsOn(deps []string) []string {
	var found []string

	for _, never := range r.Never {
		at := slices.IndexFunc(deps, func(dep string) bool { return within(dep, never) })
		if at >= 0 {
			found = append(found, fmt.Sprintf("%s depends on %s, directly or indirectly, but must not; %s",
				r.Path, deps[at], r.Why))
		}
	}

	return found
}

// local returns path relative to the root of module, and reports whether it is in
// module.
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
