package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

var update = flag.Bool("update", false, "write the answers into the stories and scripts instead of checking them")

// TestStories tells the stories of testdata/stories to a real ledger.
//
// A story is sentences, each on a line of its own, as in the table phrases
// below. Before a sentence may stand when it happens, in the campaign's time
// zone; without that it happens at the moment of the sentence before. What is
// indented beneath is the answer, which is checked, or written with -update.
// Lines that begin with "#" are remarks.
//
// A day as the opening means its beginning, a day as the close its end. Votes
// come by the channels web, mobile (both know who somebody is), in_person
// (people say who they are) and slip (nobody knows).
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			told := tell(t, string(text))
			switch {
			case told == string(text):
			case *update:
				if err := os.WriteFile(file, []byte(told), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("%s tells another story (-update accepts it):\n%s", file, difference(string(text), told))
			}
		})
	}
}

// answerIndent is where answers begin: below the sentences that have a time.
const answerIndent = "                  "

var (
	momentPattern = regexp.MustCompile(`^(\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?)  (.*)$`)
	dayLayout     = time.DateOnly
	momentLayouts = []string{"2006-01-02 15:04:05", "2006-01-02 15:04"}
)

// phrase is one form of sentence and what it does. The answer may have
// several lines.
type phrase struct {
	form *regexp.Regexp
	do   func(s *story, args []string) string
}

const byChannel = ` (on the web|in the mobile app|in person|on a paper slip)\.`

var phrases = []phrase{
	{form(`Campaign (\S+) "(.*)" opens (\S+) and closes (\S+) \((\S+)\)\. (?:One voter has (\d+) votes?\.|One voter has any number of votes\.)`), (*story).open},
	{form(`(.+?) (?:now )?works at (.+), (.+)\.`), (*story).employ},
	{form(`(.+) is withdrawn because of "(.+)"\.`), (*story).withdraw},
	{form(`(\d+) guests of (.+?) vote for (.+?)` + byChannel), (*story).guestsVote},
	{form(`(.+?)'s vote for (.+?) of (\d[-\d]+ [:\d]+) arrives` + byChannel), (*story).lateVote},
	{form(`(.+?) votes for (.+?)` + byChannel), (*story).vote},
	{form(`(.+?) takes back the vote for (.+?)` + byChannel), (*story).retract},
	{form(`The same submission arrives again\.`), (*story).again},
	{form(`The votes of the (\d+) guests of (.+?) for (.+?) are annulled under decision "(.+)" because of "(.+)"\.`), (*story).annulGuests},
	{form(`(.+?)'s vote for (.+?) is annulled under decision "(.+)" because of "(.+)"\.`), (*story).annul},
	{form(`The close is moved to (\S+) because of "(.+)"\.`), (*story).moveClose},
	{form(`The campaign is closed\.`), (*story).close},
	{form(`(.+) was registered twice and goes on as (.+), under decision "(.+)"\.`), (*story).merge},
	{form(`(\d+) specialists? and (\d+) branch(?:es)? get the award, (\d+) more specialists? a letter:`), (*story).awards},
	{form(`The (award|letter) goes to (.+), under decision "(.+)" because of "(.+)"\.`), (*story).decide},
	{form(`The results are certified(?: again because of "(.+)")?\.`), (*story).certify},
	{form(`The results are published\.`), (*story).publish},
	{form(`The campaign is archived\.`), (*story).archive},
	{form(`Results by (\w+)(?: as of event (\d+))?:`), (*story).results},
	{form(`The ledger is audited\.`), (*story).audit},
}

func form(pattern string) *regexp.Regexp { return regexp.MustCompile(`^` + pattern + `$`) }

// story is the world of one story.
type story struct {
	t      *testing.T
	ctx    context.Context
	app    *app
	node   *node.Node
	ledger *eventstore.Ledger
	intake *intake.Intake
	live   *domain.Tally // goes on from where it was at the last results, as a read model does
	key    domain.PseudonymKey
	id     string // of the campaign
	zone   *time.Location
	now    time.Time // the clock of the intake; it stands still while a sentence is carried out
	said   int       // sentences so far, for ids of submissions
	rule   domain.AwardRule
	last   intake.Command
}

// newStory begins a story on a data directory. Its end must be called.
func newStory(t *testing.T, data string) *story {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{DataDir: data})
	if err != nil {
		t.Fatal(err)
	}
	codec, err := domain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t, ctx: t.Context(), node: n, live: new(domain.Tally), key: domain.PseudonymKey{'p', 'a', 's', 'a', 'k', 'a'}}
	s.app = &app{codec: codec, now: func() time.Time { return s.now }}
	return s
}

// tell carries out the sentences of a story and returns it with the answers.
func tell(t *testing.T, text string) string {
	s := newStory(t, t.TempDir())
	defer s.end()
	var told strings.Builder
	for number, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue // an earlier answer
		}
		fmt.Fprintln(&told, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for answer := range strings.Lines(s.say(number+1, line)) {
			fmt.Fprintln(&told, strings.TrimRight(answerIndent+answer, " \n"))
		}
	}
	return told.String()
}

func (s *story) end() {
	if s.ledger != nil {
		s.check(closeLedger(s.ledger))
	}
	s.check(s.node.Close())
}

func (s *story) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// say carries out one sentence.
func (s *story) say(number int, line string) string {
	s.said++
	text := line
	if m := momentPattern.FindStringSubmatch(line); m != nil {
		s.now, text = s.moment(m[1]), m[2]
	}
	for _, known := range phrases {
		if args := known.form.FindStringSubmatch(text); args != nil {
			return known.do(s, args[1:])
		}
	}
	s.t.Fatalf("line %d: nobody knows what this means: %s", number, line)
	return ""
}

func (s *story) moment(text string) time.Time {
	for _, layout := range momentLayouts {
		if t, err := time.ParseInLocation(layout, text, s.zone); err == nil {
			return t
		}
	}
	s.t.Fatalf("%q is no moment", text)
	return time.Time{}
}

// day is the beginning of a day, or of one of the days after it.
func (s *story) day(text string, later int) time.Time {
	t, err := time.ParseInLocation(dayLayout, text, s.zone)
	s.check(err)
	return t.AddDate(0, 0, later).UTC()
}

// answer puts a refusal or a malformed command into words. Other errors end
// the story.
func (s *story) answer(err error) string {
	var refusal *domain.Refusal
	var invalid *intake.InvalidError
	var notAllowed *intake.NotAllowedError
	switch {
	case errors.As(err, &refusal):
		return "→ refused: " + string(refusal.Code)
	case errors.As(err, &invalid), errors.As(err, &notAllowed):
		return "→ impossible: " + err.Error()
	}
	s.check(err)
	return ""
}

func (s *story) open(args []string) string {
	var err error
	s.zone, err = time.LoadLocation(args[4])
	s.check(err)
	votes, err := strconv.Atoi("0" + args[5])
	s.check(err)
	d := domain.CampaignOpened{Title: args[1], OpensAt: s.day(args[2], 0), ClosesAt: s.day(args[3], 1), Timezone: args[4],
		VotesPerVoter: votes, KeyID: s.key.ID(), Channels: []domain.Channel{
			{Name: "web", Identity: domain.Verified}, {Name: "mobile", Identity: domain.Verified},
			{Name: "in_person", Identity: domain.Declared}, {Name: "slip", Identity: domain.NoIdentity}}}
	s.id, s.now = args[0], d.OpensAt.AddDate(0, 0, -1)
	s.check(s.node.CreateLedger(s.ctx, ledgerConfig(s.node, s.id)))
	s.ledger, err = s.app.openLedger(s.ctx, s.node, s.id)
	s.check(err)
	receipt, err := intake.OpenCampaign(s.ctx, s.ledger, s.id, d, s.now)
	s.check(err)
	s.intake, err = intake.New(s.ctx, intake.Config{Campaign: s.id, Ledger: s.ledger, Codec: s.app.codec, Key: &s.key, Now: s.app.now})
	s.check(err)
	return fmt.Sprintf("→ opened, event %d: votes count from %s until before %s", receipt.Sequence,
		d.OpensAt.In(s.zone).Format(time.RFC3339), d.ClosesAt.In(s.zone).Format(time.RFC3339))
}

// specialistID makes an id of a name.
func specialistID(name string) string {
	return strings.ReplaceAll(domain.FoldName(name), " ", "-")
}

func (s *story) employ(args []string) string {
	id := specialistID(args[0])
	what := "registered"
	if _, ok := s.intake.Register().Specialist(id); ok {
		what = "moved"
	}
	receipt, err := s.intake.SetSpecialist(s.ctx, id, domain.Profile{Name: args[0], Institution: args[1], Branch: args[2]})
	return s.done(what, receipt, err)
}

func (s *story) withdraw(args []string) string {
	receipt, err := s.intake.WithdrawSpecialist(s.ctx, specialistID(args[0]), args[1])
	return s.done("withdrawn", receipt, err)
}

// done answers what was recorded besides votes.
func (s *story) done(what string, receipt intake.Receipt, err error) string {
	switch {
	case err != nil:
		return s.answer(err)
	case receipt.Known:
		return fmt.Sprintf("→ was %s before, event %d", what, receipt.Sequence)
	}
	return fmt.Sprintf("→ %s, event %d", what, receipt.Sequence)
}

// command is what a voter sends. Slips come without a name, whatever the
// story calls who fills them in.
func (s *story) command(action domain.Action, voter, specialist, channel string) intake.Command {
	names := map[string]string{"on the web": "web", "in the mobile app": "mobile", "in person": "in_person", "on a paper slip": "slip"}
	if names[channel] == "slip" {
		voter = ""
	}
	return intake.Command{Action: action, Voter: voter, Specialist: specialistID(specialist), Channel: names[channel],
		SubmissionID: fmt.Sprintf("teikums-%d", s.said)}
}

func (s *story) submit(c intake.Command) string {
	s.last = c
	receipt, err := s.intake.Submit(s.ctx, c)
	switch {
	case err != nil:
		return s.answer(err)
	case receipt.Known:
		return fmt.Sprintf("→ recorded before, receipt %d", receipt.Sequence)
	}
	return fmt.Sprintf("→ recorded, receipt %d", receipt.Sequence)
}

func (s *story) vote(args []string) string {
	return s.submit(s.command(domain.Vote, args[0], args[1], args[2]))
}

func (s *story) retract(args []string) string {
	return s.submit(s.command(domain.Retract, args[0], args[1], args[2]))
}

func (s *story) lateVote(args []string) string {
	c := s.command(domain.Vote, args[0], args[1], args[3])
	c.At = s.moment(args[2])
	return s.submit(c)
}

func (s *story) again([]string) string { return s.submit(s.last) }

// guest is the id of one of many voters.
func guest(event string, i int) string { return fmt.Sprintf("%s, viesis %d", event, i) }

// guestsVote lets many people vote at the same time.
func (s *story) guestsVote(args []string) string {
	n, err := strconv.Atoi(args[0])
	s.check(err)
	receipts := make([]uint64, n)
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 256 {
		workers.Go(func() {
			for i := range numbers {
				c := s.command(domain.Vote, guest(args[1], i), args[2], args[3])
				c.SubmissionID = fmt.Sprintf("%s-%d", c.SubmissionID, i)
				receipt, err := s.intake.Submit(s.ctx, c)
				if err != nil {
					s.t.Errorf("guest %d: %v", i, err)
				}
				receipts[i] = receipt.Sequence
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	return fmt.Sprintf("→ %d recorded, receipts %d to %d", n, slices.Min(receipts), slices.Max(receipts))
}

func (s *story) annulGuests(args []string) string {
	n, err := strconv.Atoi(args[0])
	s.check(err)
	voters := make([]string, n)
	for i := range n {
		voters[i] = guest(args[1], i)
	}
	return s.annulVotes(voters, args[2], args[3], args[4])
}

func (s *story) annul(args []string) string {
	return s.annulVotes(args[:1], args[1], args[2], args[3])
}

// annulVotes annuls each voter's latest vote for a specialist.
func (s *story) annulVotes(voters []string, specialist, decision, reason string) string {
	wanted := make(map[domain.Pseudonym]uint64, len(voters))
	for _, voter := range voters {
		pseudonym, err := s.key.Voter(voter)
		s.check(err)
		wanted[pseudonym] = 0
	}
	s.check(projections.Replay(s.ctx, s.ledger, s.app.codec, 1, 0, func(sequence uint64, e domain.Event) error {
		if d, ok := e.Data.(domain.VoteCast); ok && d.Specialist == specialistID(specialist) {
			if _, ok := wanted[d.Voter]; ok {
				wanted[d.Voter] = sequence
			}
		}
		return nil
	}))
	var list []domain.Annulment
	for voter, vote := range wanted {
		list = append(list, domain.Annulment{Voter: voter, Vote: vote, Decision: decision, Reason: reason})
	}
	result, err := s.intake.AnnulAll(s.ctx, list)
	if err != nil {
		return s.answer(err)
	}
	return fmt.Sprintf("→ %d annulled, %d annulled before, %d not in force any more", result.Recorded, result.Known, result.Gone)
}

func (s *story) moveClose(args []string) string {
	receipt, err := s.intake.Amend(s.ctx, domain.CampaignAmended{ClosesAt: s.day(args[0], 1), Reason: args[1]})
	return s.done("moved", receipt, err)
}

func (s *story) close([]string) string {
	receipt, err := s.intake.Close(s.ctx, "")
	return s.done("closed", receipt, err)
}

func (s *story) merge(args []string) string {
	result, err := s.intake.MergeSpecialist(s.ctx, intake.Merge{Reason: "reģistrēts divreiz", SpecialistMerged: domain.SpecialistMerged{
		Specialist: specialistID(args[0]), Into: specialistID(args[1]), Decision: args[2]}})
	answer := s.done("merged", result.Receipt, err)
	if err == nil {
		answer += fmt.Sprintf(", %d votes annulled", result.Annulled)
	}
	return answer
}

// tally counts all that is there now.
func (s *story) tally() *domain.Tally {
	tally, err := s.app.tally(s.ctx, s.ledger, 0, time.Time{})
	s.check(err)
	return tally
}

// awards remembers the rule: later sentences go by it.
func (s *story) awards(args []string) string {
	var places [3]int
	for i, text := range args {
		n, err := strconv.Atoi(text)
		s.check(err)
		places[i] = n
	}
	s.rule = domain.AwardRule{Specialists: places[0], Institutions: places[1], InstitutionsBy: domain.ByBranch, Letters: places[2]}
	awards, err := s.tally().Awards(s.rule)
	s.check(err)
	var out strings.Builder
	for _, p := range []domain.Prize{awards.Specialists, awards.Institutions, awards.Letters} {
		for _, w := range p.Winners {
			fmt.Fprintf(&out, "%s: %d. %s, %d votes\n", p.Award, w.Rank, w.Candidate, w.Votes)
		}
		switch {
		case p.Decision != 0:
			fmt.Fprintf(&out, "%s: %d tied for %d, event %d decided\n", p.Award, len(p.Tied), p.Contested, p.Decision)
		case p.Contested > 0:
			fmt.Fprintf(&out, "%s: %d tie for %d, so that all win\n", p.Award, len(p.Tied), p.Contested)
		}
		if p.Unfit != 0 {
			fmt.Fprintf(&out, "%s: the decision of event %d does not apply\n", p.Award, p.Unfit)
		}
	}
	for _, p := range awards.PassedOver {
		fmt.Fprintf(&out, "%s: %s was passed over with %d votes\n", p.Award, p.Candidate, p.Votes)
	}
	return out.String()
}

func (s *story) decide(args []string) string {
	award := map[string]domain.Award{"award": domain.SpecialistAward, "letter": domain.Letter}[args[0]]
	d, err := s.tally().DecideTie(s.rule, award, []string{specialistID(args[1])}, args[2], args[3])
	if err != nil {
		return "→ impossible: " + err.Error()
	}
	receipt, err := s.intake.DecideTie(s.ctx, d)
	return s.done("decided", receipt, err)
}

func (s *story) certify(args []string) string {
	tally := s.tally()
	d := domain.ResultsCertified{Sequence: tally.Position(), TallyDigest: tally.Digest(), Reason: args[0]}
	if s.rule != (domain.AwardRule{}) {
		d.AwardRule = &s.rule
	}
	if newest, ok := tally.Register().Campaign().Certification(); ok && d.Reason != "" {
		d.Supersedes = newest.Event
	}
	receipt, err := s.intake.Certify(s.ctx, d, tally.Register().Campaign().Control)
	return s.done("certified", receipt, err)
}

func (s *story) publish([]string) string {
	receipt, err := s.intake.Publish(s.ctx, 0)
	return s.done("published", receipt, err)
}

func (s *story) archive([]string) string {
	receipt, err := s.intake.Archive(s.ctx)
	if err == nil {
		s.check(s.ledger.Seal(s.ctx))
	}
	return s.done("archived", receipt, err)
}

// results counts twice: going on from the last results, and again from the
// first event. Of an earlier moment there is only the second.
func (s *story) results(args []string) string {
	asOf, err := strconv.ParseUint("0"+args[1], 10, 64)
	s.check(err)
	counted, err := s.app.tally(s.ctx, s.ledger, asOf, time.Time{})
	s.check(err)
	table := s.table(args[0], counted)
	if asOf == 0 {
		s.check(projections.Replay(s.ctx, s.ledger, s.app.codec, s.live.Position()+1, 0, func(sequence uint64, e domain.Event) error {
			_, err := s.live.Apply(sequence, e)
			return err
		}))
		if other := s.table(args[0], s.live); other != table {
			s.t.Errorf("going on from the last results gives\n%s and a count from the first event\n%s", other, table)
		}
	}
	return table
}

func (s *story) table(by string, tally *domain.Tally) string {
	var out bytes.Buffer
	s.app.out = &out
	c, err := countedBy(tally, by)
	s.check(err)
	l, _ := c.rows()
	s.check(s.app.print(asTable, l))
	return fmt.Sprintf("%s%d votes of %d voters\n", out.String(), tally.Votes(), tally.Voters())
}

func (s *story) audit([]string) string {
	report, err := audit.Verify(s.ctx, s.id, s.ledger, s.app.codec, audit.Options{})
	s.check(err)
	deviations, err := s.ledger.CheckConfig(s.ctx, report.Status == domain.StatusArchived)
	s.check(err)
	report.AddStream(deviations)
	var out strings.Builder
	for _, c := range report.Checks {
		for _, m := range c.Mismatches {
			fmt.Fprintf(&out, "→ %s: %s\n", c.Title, m)
		}
	}
	if report.OK() {
		fmt.Fprintf(&out, "→ all %d checks hold: %d events, %d ballots, %d votes of %d voters in force\n",
			len(report.Checks), report.Events, report.Ballots, report.Votes, report.Voters)
	}
	for _, m := range report.Void {
		fmt.Fprintf(&out, "→ %s\n", m)
	}
	return out.String()
}

// difference shows the lines that two texts do not share, with their numbers
// in the first one.
func difference(want, got string) string {
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for i := range max(len(wants), len(gots)) {
		var w, g string
		if i < len(wants) {
			w = wants[i]
		}
		if i < len(gots) {
			g = gots[i]
		}
		if w != g {
			fmt.Fprintf(&out, "line %d\n  told: %s\n  now:  %s\n", i+1, w, g)
		}
	}
	return out.String()
}
