package flags

import "github.com/spf13/cobra"

// AddVersion adds --version to cmd, which then prints line instead of running its RunE.
//
// Cobra's own flag prints "peald version v1.0" unless a template is set, and templates
// keep the linker from removing unused methods from the program.
func AddVersion(cmd *cobra.Command, line string) {
	wanted := cmd.Flags().BoolP("version", "v", false, "print the version")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *wanted {
			cmd.Println(line)
			return nil
		}
		return run(cmd, args)
	}
}
