// Package cli is the commands of paldies. Each command reads its flags, opens
// what it needs (a node, a ledger, an intake), calls the package that does the
// work, and prints what came of it: data on standard output, everything else
// on standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

// envPrefix begins the name of the environment variable of each flag:
// --nats-url is PALDIES_NATS_URL, or PALDIES_NATS_URL_FILE for a file that
// holds the value.
const envPrefix = "PALDIES_"

// app is what all commands share.
type app struct {
	in       io.Reader
	out      io.Writer
	err      io.Writer
	now      func() time.Time
	codec    *domain.Codec
	dataDir  string
	natsURL  string
	natsCA   string
	node     node.Config // what no flag says; tests set limits here
	logLevel slog.Level
	noEnv    bool // flags are not taken from the environment
}

// Main runs one command line until it ends or the process is interrupted, and
// returns the exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	return Run(ctx, args, in, out, errOut)
}

// Run runs one command line. It can be called any number of times.
func Run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	codec, err := domain.NewCodec()
	if err != nil {
		fmt.Fprintf(errOut, "paldies: %v\n", err)
		return exitFailure
	}
	a := &app{in: in, out: out, err: errOut, now: time.Now, codec: codec, logLevel: slog.LevelWarn}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if ctx.Err() != nil && err != nil {
		err = errors.Join(errInterrupted, err)
	}
	return a.report(err, resumption(cmd, args))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "paldies",
		Short:             "An auditable vote ledger: who praises whom, once, provably",
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if a.noEnv {
				return nil
			}
			return flagsFromEnvironment(cmd.Flags())
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.dataDir, "data", node.DefaultDataDir, "data directory")
	flags.StringVar(&a.natsURL, "nats-url", "", "NATS servers to use instead of the data directory's own, for example nats://user:password@host:4222")
	flags.StringVar(&a.natsCA, "nats-ca", "", "file with the certificates of the authority of --nats-url's servers (default: the system's)")
	flags.TextVar(&a.logLevel, "log-level", slog.LevelWarn, "debug, info, warn or error")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see `%s --help`", err, cmd.CommandPath())
	})
	root.AddCommand(
		a.demoCommand(), a.devCommand(), a.campaignCommand(), a.specialistCommand(), a.credentialCommand(), a.channelCommand(),
		a.voteCommand(), a.resultsCommand(), a.reportCommand(), a.auditCommand(), a.doctorCommand(),
		a.intakeCommand(), a.queueCommand(), a.projectCommand(), a.dashboardCommand(), a.migrateCommand(),
		a.sealCommand(), a.receiptCommand(), a.restoreCommand(), a.schemaCommand(), a.benchCommand(), a.deployCommand(),
	)
	strict(root)
	return root
}

// strict makes every group of commands refuse what it does not know, and every
// error about arguments a usage error.
func strict(cmd *cobra.Command) {
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef("unknown command %q; see `%s --help`", args[0], cmd.CommandPath())
		}
	} else if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%v; see `%s --help`", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// notFromEnvironment marks flags that only the command line sets: what is meant
// for one command must not narrow what another one shows.
func notFromEnvironment(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		f.Annotations = map[string][]string{onCommandLine: nil}
		f.Usage += " (not from the environment)"
	}
}

// onCommandLine is the annotation of such a flag.
const onCommandLine = "paldies_on_command_line"

// flagsFromEnvironment sets the flags that the command line leaves out.
func flagsFromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if _, own := f.Annotations[onCommandLine]; own || f.Changed || f.Name == "help" {
			return
		}
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := os.Getenv(name) // set to nothing is not set
		if file := os.Getenv(name + "_FILE"); value == "" && file != "" {
			text, err := os.ReadFile(file)
			if err != nil {
				errs = append(errs, usagef("%s_FILE: %v", name, err))
				return
			}
			value = strings.TrimSpace(string(text))
		}
		if value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, usagef("%s: %v", name, err))
		}
	})
	return errors.Join(errs...)
}

// logger writes for people on a terminal and JSON elsewhere.
func (a *app) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: a.logLevel}
	if isTerminal(a.err) {
		return slog.New(slog.NewTextHandler(a.err, options))
	}
	return slog.New(slog.NewJSONHandler(a.err, options))
}
