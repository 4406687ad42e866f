package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/load"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/projections/postgres"
)

// The exit codes are part of the interface.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitMismatch    = 3 // a verification found something
	exitUnavailable = 4 // something that the command depends on
	exitRefused     = 5 // by the rules
	exitInterrupted = 130
)

var (
	errInterrupted = errors.New("interrupted")
	// errMismatch says that a verification found something and has printed it.
	errMismatch = errors.New("verification found mismatches")
)

// usageError is a command line that cannot be right.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// unsureError is a fault after which nobody knows whether a submission was
// recorded. Its id was made here, so that only these words can tell it.
type unsureError struct {
	error
	submissionID string
}

func (e *unsureError) Unwrap() error { return e.error }

// unavailable are the errors of what a command depends on.
var unavailable = []error{
	node.ErrInUse, node.ErrDataDir, node.ErrUnavailable, node.ErrCredentials, node.ErrUnsuitable, node.ErrStorageFull,
	eventstore.ErrUnavailable, eventstore.ErrOutcomeUnknown, eventstore.ErrBusy, intake.ErrContention, errHTTPAddress,
	postgres.ErrUnavailable, postgres.ErrRefused, errNodeGone, transparency.ErrFenced, transparency.ErrNotSealed,
	load.ErrUnavailable, errNotWell,
}

// mismatches are what a verification finds, and what halts a signer.
var mismatches = []error{
	errMismatch, eventstore.ErrCorrupt, eventstore.ErrDiffers, transparency.ErrFork, transparency.ErrShorter, transparency.ErrMisread,
	transparency.ErrChanged, transparency.ErrSignature, transparency.ErrMalformed, report.ErrTotals, report.ErrDigest,
}

func isMismatch(err error) bool {
	return slices.ContainsFunc(mismatches, func(target error) bool { return errors.Is(err, target) })
}

func exitCode(err error) int {
	var usage usageError
	var refusal *domain.Refusal
	var notAllowed *intake.NotAllowedError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case isMismatch(err):
		return exitMismatch
	case errors.As(err, &refusal), errors.As(err, &notAllowed), errors.Is(err, intake.ErrCampaignExists):
		return exitRefused
	}
	for _, target := range unavailable {
		if errors.Is(err, target) {
			return exitUnavailable
		}
	}
	return exitFailure
}

// report says on standard error what went wrong, in one sentence. Resume is the
// command that goes on after an interruption, or nothing.
func (a *app) report(err error, resume string) int {
	code := exitCode(err)
	var refusal *domain.Refusal
	switch {
	case err == nil:
	case code == exitInterrupted:
		fmt.Fprintf(a.err, "paldies: interrupted; nothing that was acknowledged is lost%s%s\n", resume, retryHint(err))
	case code == exitUnavailable:
		fmt.Fprintf(a.err, "paldies: %v%s\n", err, retryHint(err))
	case code == exitRefused && errors.As(err, &refusal):
		fmt.Fprintf(a.err, "paldies: refused: %s\n  %s\n", refusal, refusal.Latvian())
	case errors.Is(err, intake.ErrNoKey), errors.Is(err, keyring.ErrMissing):
		fmt.Fprintf(a.err, "paldies: %v (without it nobody can vote, everybody can count)\n", err)
	default:
		fmt.Fprintf(a.err, "paldies: %v\n", err)
	}
	return code
}

// retryHint says how a submission of which nothing is known is repeated.
func retryHint(err error) string {
	var unsure *unsureError
	if !errors.As(err, &unsure) {
		return ""
	}
	return "; to try again safely: --submission-id " + unsure.submissionID
}

// canResume is the annotation of a command that goes on where it was when it is
// run again, and whose arguments may be repeated to whoever reads over a
// shoulder or in a log: others name voters.
const canResume = "paldies_can_resume"

func resumable(cmd *cobra.Command) { cmd.Annotations = map[string]string{canResume: ""} }

// resumption says how a command goes on after an interruption. Passwords in the
// addresses of servers are left out.
func resumption(cmd *cobra.Command, args []string) string {
	if _, can := cmd.Annotations[canResume]; !can {
		return ""
	}
	const flag = "--nats-url"
	shown := make([]string, len(args))
	for i, arg := range args {
		servers, is := strings.CutPrefix(arg, flag+"=")
		switch {
		case is:
			arg = flag + "=" + node.RedactServers(servers)
		case i > 0 && args[i-1] == flag:
			arg = node.RedactServers(arg)
		}
		shown[i] = arg
	}
	return ". To go on: paldies " + quoteArgs(shown)
}

// quoteArgs writes a command line that a shell reads as it was.
func quoteArgs(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		if arg == "" || strings.ContainsAny(arg, " \t\n\"'\\$`&|;<>()*?[]{}~#!") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		quoted[i] = arg
	}
	return strings.Join(quoted, " ")
}
