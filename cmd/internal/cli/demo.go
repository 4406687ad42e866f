package cli

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
)

// demoSpecialists are the people of the demo. They, their institutions and all
// voters are invented.
//
//go:embed demo/specialists.csv
var demoSpecialists []byte

const (
	demoCampaign = "labais-serviss"
	demoDays     = 30  // how long the campaign has been open when the demo begins
	demoRows     = 280 // submissions by residents in the file
	demoVoters   = 160 // residents who sent them
	demoSlips    = 24  // slips by one hand, besides
	demoTime     = "2006-01-02T15:04Z07:00"
	demoReceipt  = "296" // of Līga's vote
	demoKey      = node.DefaultDataDir + "/log/" + demoCampaign + "/vkey"
)

// demoStep is one command of the story.
type demoStep struct {
	say  string   // what a person should know before it; empty when the last saying goes on
	args []string // as typed, without the program's name
	into string   // file that takes the output, as with > in a shell
	exit int      // how it must end
}

// demo plays the story in a folder of its own.
type demo struct {
	app *app
	dir string
}

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a campaign from opening to verification, in a few seconds",
		Long: "Show a campaign from opening to verification, in a few seconds: every command as\n" +
			"one would type it, and what it really answers. It works in a temporary folder and\n" +
			"touches nothing else. All people and institutions are invented.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), keep) },
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "do not remove the folder at the end")
	return cmd
}

func (a *app) demo(ctx context.Context, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "paldies-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	if !keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	zone, err := time.LoadLocation("Europe/Riga")
	if err != nil {
		return err
	}
	d := &demo{app: a, dir: dir}
	start := time.Now()
	now := a.now().In(zone)
	opens := time.Date(now.Year(), now.Month(), now.Day()-demoDays, 0, 0, 0, 0, zone)
	err = errors.Join(
		os.WriteFile(d.path("specialists.csv"), demoSpecialists, 0o600),
		os.WriteFile(d.path("votes.csv"), demoVotes(opens, now), 0o600))
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "# Residents praise those who serve them, in a campaign from opening to verification.\n"+
		"# All people and institutions are invented.\n$ cd %s\n", dir)
	for _, step := range demoStory(opens) {
		if err := d.play(ctx, step); err != nil {
			return err
		}
	}
	return d.end(keep, time.Since(start))
}

func (d *demo) end(keep bool, took time.Duration) error {
	where := "The folder is removed; `paldies demo --keep` keeps it."
	if keep {
		where = fmt.Sprintf("The folder is kept: cd %s, then for example\npaldies results --campaign %s --by day", d.dir, demoCampaign)
	}
	_, err := fmt.Fprintf(d.app.out, "\nThat took %s. %s\n"+
		"Next: `paldies dev` runs a node that other commands share, `paldies doctor` checks\n"+
		"it, `paldies help` lists everything.\n", took.Round(10*time.Millisecond), where)
	return err
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// play shows one command and its answer. The command runs in this process and
// on full paths; with the folder's own taken out of what it says, it answers
// as it would to somebody who works in the folder.
func (d *demo) play(ctx context.Context, step demoStep) error {
	if step.say != "" {
		fmt.Fprintf(d.app.out, "\n# %s\n", step.say)
	}
	fmt.Fprintf(d.app.out, "$ paldies %s", quoteArgs(step.args))
	if step.into != "" {
		fmt.Fprintf(d.app.out, " > %s", step.into)
	}
	fmt.Fprintln(d.app.out)
	var said, data bytes.Buffer
	out := &said
	if step.into != "" {
		out = &data
	}
	code := d.command(ctx, step.args, out, &said)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if step.into != "" {
		if err := os.WriteFile(d.path(step.into), data.Bytes(), 0o600); err != nil {
			return err
		}
	}
	text := strings.ReplaceAll(said.String(), d.dir+string(filepath.Separator), "")
	if code != exitOK {
		text += fmt.Sprintf("(exit code %d)\n", code)
	}
	if _, err := io.WriteString(d.app.out, text); err != nil {
		return err
	}
	if code != step.exit {
		return fmt.Errorf("the demo stops: the last command ended with exit code %d instead of %d", code, step.exit)
	}
	return nil
}

// command is run on the demo's folder. What the environment says about flags
// is for the user's own commands and does not change the story.
func (d *demo) command(ctx context.Context, args []string, out, errOut io.Writer) int {
	a := *d.app
	a.in, a.out, a.err, a.noEnv = strings.NewReader(""), out, errOut, true
	full := []string{"--data", d.path(node.DefaultDataDir)}
	for _, arg := range args {
		switch filepath.Ext(arg) {
		case ".csv", ".tlog-proof": // only names of files end so here
			arg = d.path(arg)
		}
		if arg == demoKey {
			arg = d.path(arg)
		}
		full = append(full, arg)
	}
	return a.run(ctx, full)
}

// demoStory is what happens.
func demoStory(opens time.Time) []demoStep {
	in := func(command string, more ...string) []string {
		return append(strings.Fields(command+" --campaign "+demoCampaign), more...)
	}
	cast := func(action, channel string) []string {
		return in("vote "+action, "--voter", "demo:līga", "--specialist", "anna-zvirbule", "--channel", channel)
	}
	return []demoStep{
		{say: "The campaign opens. Paper slips come in without a name.", args: []string{"campaign", "open", demoCampaign,
			"--opens", opens.Format(demoTime), "--closes", opens.AddDate(0, 0, 2*demoDays).Format(demoTime), "--identity", "in_person=none"}},
		{args: in("specialist import", "specialists.csv")},
		{say: "Votes of the first weeks. Second votes for the same person are refused, in every import\n" +
			"# alike: the same file once more doubles nothing.", args: in("vote import", "votes.csv")},
		{args: in("vote import", "votes.csv")},
		{say: "Līga votes. Her second vote for Anna is refused, by whatever channel it comes, until she has\n" +
			"# taken the first one back.", args: cast("cast", "web")},
		{args: cast("cast", "mobile"), exit: exitRefused},
		{args: cast("retract", "web")},
		{args: cast("cast", "web")},
		{say: "A slip without a name: a voter of its own.", args: in("vote cast", "--specialist", "nina-abele", "--channel", "in_person")},
		{say: "All slips for Ēriks are in one handwriting. An auditor annuls them under a published decision.",
			args: in("vote list", "--specialist", "eriks-ivins", "--channel", "in_person"), into: "slips.csv"},
		{args: in("vote annul", "--file", "slips.csv", "--decision", "L-17", "--reason", "one handwriting")},
		{say: "The campaign is closed. A vote comes too late.", args: []string{"campaign", "close", demoCampaign}},
		{args: in("vote cast", "--voter", "demo:žanis", "--specialist", "ilze-udre", "--channel", "web"), exit: exitRefused},
		{say: "The results, by specialist and by institution.", args: in("results")},
		{args: in("results", "--by", "institution")},
		{say: "Every event is an entry of a Merkle log, whose root is signed. A running node does that by itself.", args: in("seal", "--once")},
		{say: "Līga can prove to anybody that her vote is in, with nothing but a small file and the log's key.",
			args: in("receipt get", demoReceipt), into: "liga.tlog-proof"},
		{args: []string{"receipt", "verify", "liga.tlog-proof", "--key", demoKey}},
		{say: "Anyone can check: every event again from the first one, every rule, every count, every proof.", args: in("audit verify")},
	}
}

// demoVotes is a file of submissions, the same in every demo but for the times:
// votes of residents, some of whom take one back or vote twice for somebody, and
// a stack of slips that one hand has filled in.
func demoVotes(opens, now time.Time) []byte {
	random := rand.New(rand.NewPCG(2018, 11))
	specialists := []string{"anna-zvirbule", "girts-kaukis", "ilze-udre", "janis-ciekurs", "liga-zubite", "martins-skeps", "nina-abele", "eriks-ivins"}
	const honest = 7 // specialists with honest slips; the last one has only the stack
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	write := func(fields ...string) { _ = w.Write(fields) } // into memory, which does not fail
	write(intake.VoteColumns.Required...)
	gap := now.Sub(opens) / (demoRows + demoSlips + 1)
	for row := range demoRows + demoSlips {
		id, at := fmt.Sprintf("iesniegums-%03d", row+1), opens.Add(time.Duration(row)*gap).Format(time.RFC3339)
		number := random.IntN(demoVoters)
		voter, channel := fmt.Sprintf("demo:balsotājs-%03d", number), []string{"web", "mobile"}[number%2]
		// The better of two draws: some are praised more often than others.
		specialist := specialists[min(random.IntN(len(specialists)), random.IntN(len(specialists)))]
		switch {
		case row >= demoRows:
			write(id, "", specialists[honest], "in_person", "vote", at)
		case row%7 == 3:
			write(id, "", specialists[random.IntN(honest)], "in_person", "vote", at)
		case row%40 == 39:
			write(id, voter, specialist, channel, "vote", at)
			write(id, voter, specialist, channel, "retract", at)
		default:
			write(id, voter, specialist, channel, "vote", at)
		}
	}
	w.Flush()
	return text.Bytes()
}
