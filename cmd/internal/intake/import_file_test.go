package intake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
)

// file reads a text as a file of submissions.
func (w *world) file(text string) *csvfile.Reader {
	w.t.Helper()
	file, err := csvfile.NewReader("balsis.csv", strings.NewReader(text), intake.VoteColumns)
	must(w.t, err)
	return file
}

const voteHeader = "submission_id,voter,specialist_id,channel,action,at\n"

func TestTooManyRows(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	text := voteHeader + "s1,Anna,ilze,web,vote,\nnepilna\ns3,Līga,ilze,web,vote,\n"
	im, err := intake.ReadImportMax(t.Context(), in, w.file(text), 3)
	must(t, err)
	if n := im.Rows(); n != 2 {
		t.Errorf("%d rows can be decided", n)
	}
	im, err = intake.ReadImportMax(t.Context(), in, w.file(text), 2)
	if im != nil || !errors.Is(err, intake.ErrTooManyRows) || !strings.Contains(err.Error(), "more than 2: split it") {
		t.Errorf("one row too many: %v, %v", im, err)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	w := newWorld(t, 0)
	ctx, stop := context.WithCancel(t.Context())
	in := w.intake(w.ledger)
	stop()
	if im, err := intake.ReadImport(ctx, in, w.file(voteHeader+"s1,Anna,ilze,web,vote,\n")); im != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", im, err)
	}
}

// TestKnownRowsAreListed: an import can say which rows the ledger has, and a
// dry run tells them from rows that the file itself repeats.
func TestKnownRowsAreListed(t *testing.T) {
	w := newWorld(t, 0)
	w.run(w.intake(w.ledger), []row{{"s1", "Anna", "ilze", "web", "vote", ""}})
	rows := []row{
		{"s1", "Anna", "ilze", "web", "vote", ""},
		{"s2", "Līga", "ilze", "web", "vote", ""},
		{"s2", "Līga", "ilze", "web", "vote", ""},
		{"s3", "Līga", "ilze", "web", "vote", ""},
	}
	im := w.load(w.dry(), rows)
	im.ListKnown = true
	result, err := im.Run(t.Context())
	must(t, err)
	var told []string
	for _, r := range result.Rejects {
		told = append(told, fmt.Sprint(r.Line, " ", r.Code, " ", r.Reason))
	}
	want := []string{"2 known It is in the ledger already (event 5).", "4 known It repeats a row of this file.",
		"5 already_voted This voter has voted for this specialist already."}
	if !slices.Equal(told, want) {
		t.Errorf("listed: %q", told)
	}
	if result = w.run(w.dry(), rows); len(result.Rejects) != 1 {
		t.Errorf("without being asked: %+v", result.Rejects)
	}
}

// TestMixedUpColumns: whatever column a personal code stands in, no message
// repeats it, nor a name.
func TestMixedUpColumns(t *testing.T) {
	w := newWorld(t, 0)
	columns := intake.VoteColumns.Required
	good := []string{"s1", "Anna", "ilze", "web", "vote", "2018-02-20T10:00+02:00"}
	for _, secret := range []string{"lv-pk:010180-12345", "lv-pk:010180-1234", "010180-12345", "Anna Kļaviņa", "kļaviņa"} {
		for i, column := range columns {
			fields := slices.Clone(good)
			fields[i] = secret
			text := voteHeader + strings.Join(fields, ",") + "\n"
			im, err := intake.ReadImport(t.Context(), w.intake(w.ledger), w.file(text))
			must(t, err)
			result, err := im.Run(t.Context())
			must(t, err)
			for _, r := range result.Rejects {
				if strings.Contains(r.Reason, secret) || strings.Contains(r.Reason, "010180") {
					t.Errorf("%s: %s", column, r.Reason)
				}
			}
			if wrong := column != "voter" && column != "submission_id"; wrong && len(result.Rejects) != 1 {
				t.Errorf("%s is %q: %+v", column, secret, result)
			}
		}
	}
}

// TestMendedRejects: a file of rejects has columns that say what was wrong. It
// can be imported with them.
func TestMendedRejects(t *testing.T) {
	w := newWorld(t, 0)
	text := "line,submission_id,voter,specialist_id,channel,action,at,code,reason\n" +
		"7,s1,Anna,ilze,web,vote,,unknown_specialist,\"There is no such specialist in this campaign.\"\n"
	im, err := intake.ReadImport(t.Context(), w.intake(w.ledger), w.file(text))
	must(t, err)
	result, err := im.Run(t.Context())
	must(t, err)
	if result.Recorded != 1 || len(result.Rejects) != 0 {
		t.Errorf("%+v", result)
	}
}

// TestInterruptedImport says how much was left undone.
func TestInterruptedImport(t *testing.T) {
	w := newWorld(t, 0)
	im := w.load(w.intake(w.ledger), []row{{"s1", "Anna", "ilze", "web", "vote", ""}, {"s2", "Līga", "ilze", "web", "vote", ""}})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	result, err := im.Run(ctx)
	if !errors.Is(err, context.Canceled) || result.Unanswered+im.Done() != 2 {
		t.Errorf("%+v, %v", result, err)
	}
}
