package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"sakipaldies.lv/ledger/cmd/internal/intake"
)

// sameFile says whether two paths lead to one file.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// createRejects makes the file for the rows that are not recorded, before
// anything is. They hold voters' ids, so that only their owner may read them,
// even where others could read an earlier file. Without a path nothing is kept.
func createRejects(path string) (io.WriteCloser, error) {
	if path == "" {
		return discard{io.Discard}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the rejects: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = f.Chmod(0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("write the rejects: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

// writeRejects writes rows with why they were not recorded. The columns that say
// so take the place of those that a file has which was written here before.
func writeRejects(to io.Writer, header []string, rejects []intake.Reject) error {
	own := func(row []string) (fields []string) {
		for i, name := range header {
			if !slices.Contains(intake.VoteColumns.Ignored, name) {
				fields = append(fields, row[i])
			}
		}
		return fields
	}
	w := csv.NewWriter(to)
	if err := w.Write(slices.Concat([]string{"line"}, own(header), []string{"code", "reason"})); err != nil {
		return err
	}
	for _, r := range rejects {
		row := r.Fields
		if row == nil { // not even its fields could be read
			row = make([]string, len(header))
		}
		if err := w.Write(slices.Concat([]string{strconv.Itoa(r.Line)}, own(row), []string{r.Code, r.Reason})); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}
