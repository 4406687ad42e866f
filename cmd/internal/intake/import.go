package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

const (
	// importWorkers is how many voters an import works on at a time. It is what
	// one group commit can hold.
	importWorkers = eventstore.MaxBatchEvents
	// importPatience is how long an import tries to get over a fault of the
	// ledger before it stops.
	importPatience = 30 * time.Second
	// maxImportRows is how many rows a file may have. They are in memory all at
	// once: without a limit, a small packed file could take all there is.
	maxImportRows = 5_000_000
	// readAheadEvents is how many events of the ledger an import reads for each of
	// its rows rather than ask for a voter's history: one takes 5 to 10 µs, where
	// a question takes 75 µs and more.
	readAheadEvents = 8
	// readAheadBytes is how many bytes of events an import keeps that it has read
	// ahead, until their voters' turns. Of voters with later events the ledger is
	// asked.
	readAheadBytes = 256 << 20
	// importPause is how long it waits between two tries.
	importPause = 100 * time.Millisecond
)

// VoteColumns are the columns of a file of submissions. Those that are ignored
// stand in a file of rejects, so that it can be mended and imported.
var VoteColumns = csvfile.Columns{
	Required: []string{"submission_id", "voter", "specialist_id", "channel", "action", "at"},
	Ignored:  []string{"line", "code", "reason"},
}

// ErrTooManyRows says that a file has more rows than an import takes at once.
var ErrTooManyRows = errors.New("the file has too many rows")

// Import is a file of submissions on its way into the ledger. The whole file is
// in memory, 500 to 800 bytes a row, because what becomes of a row that is
// imported again depends on the later rows of the same voter; besides, at most
// 256 MiB of what the ledger has of these voters.
type Import struct {
	// Hopeless, when not nil, says of a fault of the ledger that it does not
	// pass by itself: such a fault ends the import at once.
	Hopeless func(error) bool
	// ListKnown puts rows that were recorded before into Result.Rejects, too.
	ListKnown bool

	intake *Intake
	ahead  int // how many bytes are read ahead at most
	voters []importVoter
	result Result
	done   atomic.Int64

	mu sync.Mutex // guards result while Run runs
}

// importVoter is the rows of one voter, in the order of the file, and what the
// ledger had of the voter when the import began, as far as that was read.
type importVoter struct {
	pseudonym domain.Pseudonym
	rows      []importRow
	recorded  []eventstore.Recorded
}

type importRow struct {
	line   int
	fields []string
	cmd    Command
	key    rowKey
}

// Result says what became of the rows.
type Result struct {
	Rows       int                 `json:"rows"`
	Recorded   int                 `json:"recorded"`
	Known      int                 `json:"known"` // recorded before
	Refused    map[domain.Code]int `json:"refused"`
	Unreadable int                 `json:"unreadable"`
	Unanswered int                 `json:"unanswered,omitzero"` // because Run ended with an error; some may be recorded
	Rejects    []Reject            `json:"-"`                   // refused and unreadable rows (and known ones, see ListKnown), in the order of the file
}

// Reject is a row that was not recorded.
type Reject struct {
	Line   int
	Fields []string // as far as they could be read
	Code   string   // of the refusal, or one of those below
	Reason string
}

const (
	// Unreadable is the code of a row that could not be read.
	Unreadable = "unreadable"
	// Known is the code of a row that was recorded before.
	Known = "known"
)

// ReadImport reads a file to its end. Rows that cannot be read are in the
// result. When the rest of the file cannot be read, the import has the rows
// before it. There is no import when the file has too many rows
// (ErrTooManyRows) or the context ends.
func ReadImport(ctx context.Context, in *Intake, file *csvfile.Reader) (*Import, error) {
	return readImport(ctx, in, file, maxImportRows)
}

func readImport(ctx context.Context, in *Intake, file *csvfile.Reader, maxRows int) (*Import, error) {
	im := &Import{intake: in, ahead: readAheadBytes, result: Result{Refused: make(map[domain.Code]int)}}
	place := make(map[domain.Pseudonym]int)
	for {
		row, err := file.Next()
		if errors.Is(err, io.EOF) {
			return im, nil
		}
		var bad *csvfile.RowError
		if err != nil && !errors.As(err, &bad) {
			return im, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if im.result.Rows++; im.result.Rows > maxRows {
			return nil, fmt.Errorf("%w, more than %d: split it so that all rows of a voter stay together in their order", ErrTooManyRows, maxRows)
		}
		if err != nil {
			im.unreadable(bad.Line, nil, bad.Err)
			continue
		}
		r, voter, err := in.importRow(row)
		if err != nil {
			im.unreadable(row.Line, row.Fields(), err)
			continue
		}
		i, ok := place[voter]
		if !ok {
			i = len(im.voters)
			place[voter] = i
			im.voters = append(im.voters, importVoter{pseudonym: voter})
		}
		im.voters[i].rows = append(im.voters[i].rows, r)
	}
}

func (im *Import) unreadable(line int, fields []string, err error) {
	im.result.Unreadable++
	im.result.Rejects = append(im.result.Rejects, Reject{Line: line, Fields: fields, Code: Unreadable, Reason: err.Error()})
}

// importRow checks all that can be checked without the ballot. Its errors name
// the column and not the value: where columns were mixed up, it is a voter's id.
func (in *Intake) importRow(row csvfile.Row) (importRow, domain.Pseudonym, error) {
	cmd := Command{
		Voter: row.Get("voter"), Specialist: row.Get("specialist_id"),
		Channel: row.Get("channel"), SubmissionID: row.Get("submission_id"),
	}
	var err error
	if cmd.Action, err = domain.ParseAction(row.Get("action")); err != nil {
		return importRow{}, domain.Pseudonym{}, fmt.Errorf("action is not %q or %q", domain.Vote, domain.Retract)
	}
	if at := row.Get("at"); at != "" {
		if cmd.At, err = parseTime(at); err != nil {
			return importRow{}, domain.Pseudonym{}, fmt.Errorf("at %w", err)
		}
	}
	if domain.ValidateSpecialistID(cmd.Specialist) != nil {
		return importRow{}, domain.Pseudonym{}, fmt.Errorf("specialist_id is not 1 to %d characters a-z, A-Z, 0-9, - and _, the first a letter or digit", domain.MaxSpecialistIDBytes)
	}
	if cmd.SubmissionID == "" {
		return importRow{}, domain.Pseudonym{}, errors.New("submission_id is empty; without it the file cannot be imported twice safely")
	}
	s, err := in.submission(cmd)
	if refusal := (*domain.Refusal)(nil); errors.As(err, &refusal) {
		// Submit will say so; whose row it is does not matter until then.
		return importRow{line: row.Line, fields: row.Fields(), cmd: cmd}, domain.Pseudonym{}, nil
	}
	if err != nil {
		return importRow{}, domain.Pseudonym{}, err
	}
	if err := s.Validate(); err != nil {
		return importRow{}, domain.Pseudonym{}, err
	}
	key := rowKey{s.EventID(in.cfg.Campaign), domain.SubmissionDigest(s.Specialist, s.At)}
	return importRow{line: row.Line, fields: row.Fields(), cmd: cmd, key: key}, s.Voter, nil
}

// ParseTime reads RFC 3339; the offset is needed, seconds are not.
func ParseTime(s string) (time.Time, error) {
	t, err := parseTime(s)
	if err != nil {
		return t, fmt.Errorf("time %.64q %w", s, err)
	}
	return t, nil
}

var (
	errNoOffset = errors.New("has no offset; write for example 2018-11-11T23:59:59+02:00")
	errNoTime   = errors.New("is not a time; write for example 2018-11-11T23:59:59+02:00")
)

// parseTime leaves it to its caller to name what it cannot read.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04:05", time.DateOnly} {
		if _, err := time.Parse(layout, s); err == nil {
			return time.Time{}, errNoOffset
		}
	}
	return time.Time{}, errNoTime
}

// Rows is how many rows there are to decide.
func (im *Import) Rows() int {
	n := 0
	for _, v := range im.voters {
		n += len(v.rows)
	}
	return n
}

// Done is how many rows are decided so far; it may be asked while Run runs.
func (im *Import) Done() int { return int(im.done.Load()) }

// Run decides every row. Rows of one voter are decided in the order of the
// file, different voters at the same time. After an error the import can be
// run again: what was recorded is found again.
func (im *Import) Run(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := im.readRecorded(ctx); err != nil && !im.passes(err) {
		cancel(err)
	}
	voters := make(chan *importVoter)
	var workers sync.WaitGroup
	for range min(importWorkers, len(im.voters)) {
		workers.Go(func() {
			for v := range voters {
				if err := im.voter(ctx, v); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range im.voters {
		if ctx.Err() != nil {
			break
		}
		voters <- &im.voters[i]
	}
	close(voters)
	workers.Wait()
	slices.SortFunc(im.result.Rejects, func(a, b Reject) int { return cmp.Compare(a.Line, b.Line) })
	result := im.result
	result.Unanswered = im.Rows() - im.Done()
	result.Refused = maps.Clone(result.Refused)
	return result, context.Cause(ctx)
}

// readRecorded reads the ledger once from its beginning, unless the file is a
// small part of it. Asked for one voter, the server looks at every event that
// lies between two of the voter's: to import 126,840 rows of 42,280 voters again
// took 18 s, and so many such questions at once could keep the server from
// answering any of them in time. What is read is a beginning of each ballot:
// after an error, too, the rest is asked for.
func (im *Import) readRecorded(ctx context.Context) error {
	in := im.intake
	last, found, err := in.cfg.Ledger.Last(ctx, domain.VoterSubjects(in.cfg.Campaign), eventstore.AnyReplica)
	if err != nil {
		return fmt.Errorf("campaign %s: read the last event of a voter: %w", in.cfg.Campaign, err)
	}
	if !found || last.Sequence > readAheadEvents*uint64(im.Rows()) {
		return nil
	}
	place := make(map[string]int, len(im.voters))
	for i, v := range im.voters {
		place[domain.VoterSubject(in.cfg.Campaign, v.pseudonym)] = i
	}
	kept := 0
	err = in.cfg.Ledger.Replay(ctx, 1, last.Sequence, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			i, ok := place[rec.Subject]
			if !ok {
				continue
			}
			if kept += len(rec.Subject) + len(rec.Data); kept > im.ahead {
				return errAhead
			}
			im.voters[i].recorded = append(im.voters[i].recorded, rec)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errAhead) {
		return fmt.Errorf("campaign %s: read what was recorded before: %w", in.cfg.Campaign, err)
	}
	return nil
}

// errAhead says that enough was read ahead.
var errAhead = errors.New("enough is read ahead")

// passes says of a fault of the ledger whether it may pass by itself.
func (im *Import) passes(err error) bool {
	for _, passing := range []error{eventstore.ErrBusy, ErrContention, eventstore.ErrUnavailable, eventstore.ErrOutcomeUnknown} {
		if errors.Is(err, passing) {
			return im.Hopeless == nil || !im.Hopeless(err)
		}
	}
	return false
}

// voter decides the rows of one voter.
func (im *Import) voter(ctx context.Context, v *importVoter) error {
	im.intake.learn(v.pseudonym, v.recorded)
	v.recorded = nil // The ballot has it.
	places := make(map[rowKey][]int, len(v.rows))
	for i, row := range v.rows {
		places[row.key] = append(places[row.key], i)
	}
	for i, row := range v.rows {
		row.cmd.Order = &Order{rows: places, row: i}
		receipt, err := im.submit(ctx, row.cmd)
		if err := im.count(row, receipt, err); err != nil {
			return fmt.Errorf("line %d: %w", row.line, err)
		}
		im.done.Add(1)
	}
	return nil
}

// submit tries to get over faults that pass. The same submission id makes a
// retry safe, whatever became of the first try.
func (im *Import) submit(ctx context.Context, cmd Command) (Receipt, error) {
	for start := time.Now(); ; {
		receipt, err := im.intake.Submit(ctx, cmd)
		if !im.passes(err) || time.Since(start) > importPatience {
			return receipt, err
		}
		select {
		case <-time.After(importPause):
		case <-ctx.Done():
			return receipt, err
		}
	}
}

// count adds up what became of a row. Faults are returned.
func (im *Import) count(row importRow, receipt Receipt, err error) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	var refusal *domain.Refusal
	var invalid *InvalidError
	switch {
	case err == nil && receipt.Known:
		im.result.Known++
		if im.ListKnown {
			im.result.Rejects = append(im.result.Rejects, Reject{Line: row.line, Fields: row.fields, Code: Known, Reason: knownReason(receipt)})
		}
	case err == nil:
		im.result.Recorded++
	case errors.As(err, &refusal):
		im.result.Refused[refusal.Code]++
		im.result.Rejects = append(im.result.Rejects, Reject{Line: row.line, Fields: row.fields, Code: string(refusal.Code), Reason: refusal.English()})
	case errors.As(err, &invalid):
		im.unreadable(row.line, row.fields, err)
	default:
		return err
	}
	return nil
}

// knownReason says where a row was recorded. In a dry run that may be nowhere
// but among the rows before it.
func knownReason(r Receipt) string {
	if r.Sequence >= firstDrySequence {
		return "It repeats a row of this file."
	}
	return fmt.Sprintf("It is in the ledger already (event %d).", r.Sequence)
}
