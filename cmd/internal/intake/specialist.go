package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// SpecialistColumns are the columns of a file of specialists.
var SpecialistColumns = csvfile.Columns{
	Required: []string{"specialist_id", "name"},
	Optional: []string{"position", "institution", "branch", "region"},
}

// specialistWorkers is how many specialists are recorded at a time.
const specialistWorkers = 256

// SetSpecialist registers a specialist or, when the profile differs, updates
// it. The receipt is Known when there was nothing to do.
func (in *Intake) SetSpecialist(ctx context.Context, id string, p domain.Profile) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		return setSpecialist(r, id, p)
	})
}

func setSpecialist(r *domain.Register, id string, p domain.Profile) (domain.Payload, uint64, error) {
	if err := errors.Join(domain.ValidateSpecialistID(id), p.Validate()); err != nil {
		return nil, 0, &InvalidError{err}
	}
	s, ok := r.Specialist(id)
	switch {
	case r.Campaign().ArchivedAt != 0:
		return nil, 0, &domain.Refusal{Code: domain.ClosedCampaign, Sequence: r.Campaign().ArchivedAt}
	case !ok:
		return domain.SpecialistRegistered{Specialist: id, Profile: p}, 0, nil
	case s.Profile == p:
		return nil, s.Last, nil
	default:
		return domain.SpecialistUpdated{Specialist: id, Profile: p}, s.Last, nil
	}
}

// WithdrawSpecialist ends voting for a specialist.
func (in *Intake) WithdrawSpecialist(ctx context.Context, id, reason string) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		s, ok := r.Specialist(id)
		switch {
		case !ok:
			return nil, 0, fmt.Errorf("specialist %.64q is not registered", id)
		case s.Withdrawn:
			return nil, s.Last, nil
		}
		return domain.SpecialistWithdrawn{Specialist: id, Reason: reason}, s.Last, nil
	})
}

// SpecialistRow is one specialist of a file.
type SpecialistRow struct {
	Line int
	ID   string
	domain.Profile
	absent []string // optional columns that its file does not have
}

// wanted is the profile that the row asks for. What its file has no column for
// stays as it is.
func (row SpecialistRow) wanted(r *domain.Register) domain.Profile {
	wanted := row.Profile
	s, ok := r.Specialist(row.ID)
	if !ok {
		return wanted
	}
	for _, column := range row.absent {
		switch column {
		case "position":
			wanted.Position = s.Position
		case "institution":
			wanted.Institution = s.Institution
		case "branch":
			wanted.Branch = s.Branch
		case "region":
			wanted.Region = s.Region
		}
	}
	return wanted
}

// Change is what a row does.
type Change string

// The changes that a file of specialists makes.
const (
	RowNew     Change = "new"
	RowChanged Change = "changed"
	RowSame    Change = "same"
)

// ReadSpecialists reads a file to its end. Rows that cannot be read are
// returned beside the good ones; the error says that the rest of the file
// could not be read.
func ReadSpecialists(file *csvfile.Reader) (rows []SpecialistRow, bad []*csvfile.RowError, err error) {
	firstLine := make(map[string]int)
	absent := slices.DeleteFunc(slices.Clone(SpecialistColumns.Optional), file.Has)
	for {
		row, err := file.Next()
		if errors.Is(err, io.EOF) {
			return rows, bad, nil
		}
		var rowErr *csvfile.RowError
		if errors.As(err, &rowErr) {
			bad = append(bad, rowErr)
			continue
		}
		if err != nil {
			return rows, bad, err
		}
		s := SpecialistRow{Line: row.Line, ID: row.Get("specialist_id"), Profile: domain.Profile{
			Name: row.Get("name"), Position: row.Get("position"), Institution: row.Get("institution"),
			Branch: row.Get("branch"), Region: row.Get("region")}, absent: absent}
		if err := errors.Join(domain.ValidateSpecialistID(s.ID), s.Profile.Validate()); err != nil {
			bad = append(bad, file.RowError(row, err))
			continue
		}
		if line, twice := firstLine[s.ID]; twice {
			bad = append(bad, file.RowError(row, fmt.Errorf("specialist %s is on line %d already", s.ID, line)))
			continue
		}
		firstLine[s.ID] = row.Line
		rows = append(rows, s)
	}
}

// PlanSpecialists says what each row does.
func PlanSpecialists(r *domain.Register, rows []SpecialistRow) (map[Change][]SpecialistRow, error) {
	plan := make(map[Change][]SpecialistRow)
	for _, row := range rows {
		d, _, err := setSpecialist(r, row.ID, row.wanted(r))
		if err != nil {
			return nil, err
		}
		change := RowSame
		switch d.(type) {
		case domain.SpecialistRegistered:
			change = RowNew
		case domain.SpecialistUpdated:
			change = RowChanged
		}
		plan[change] = append(plan[change], row)
	}
	return plan, nil
}

// Duplicate is a suspicion: two ids, one name in one institution.
type Duplicate struct {
	Row     SpecialistRow
	OtherID string
}

// SuspectDuplicates finds rows that look like a specialist who is in the file
// before them or registered under another id. Diacritics and case are ignored.
func SuspectDuplicates(r *domain.Register, rows []SpecialistRow) []Duplicate {
	type person struct{ name, institution string }
	key := func(p domain.Profile) person {
		return person{domain.FoldName(p.Name), domain.FoldName(p.Institution)}
	}
	known := make(map[person]string)
	for _, s := range r.Specialists() {
		known[key(s.Profile)] = s.ID
	}
	var found []Duplicate
	for _, row := range rows {
		k := key(row.wanted(r))
		if k.name == "" {
			continue // two rows without a name say nothing about each other
		}
		if other, ok := known[k]; ok && other != row.ID {
			found = append(found, Duplicate{Row: row, OtherID: other})
			continue
		}
		known[k] = row.ID
	}
	return found
}

// ImportSpecialists records the rows that change something. Specialists are
// independent of each other, so that a repeated import finishes one that was
// interrupted.
func (in *Intake) ImportSpecialists(ctx context.Context, rows []SpecialistRow) error {
	r := in.Register()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan SpecialistRow)
	var workers sync.WaitGroup
	for range min(specialistWorkers, len(rows)) {
		workers.Go(func() {
			for row := range next {
				if err := in.importSpecialist(ctx, r, row); err != nil {
					cancel(fmt.Errorf("line %d: specialist %s: %w", row.Line, row.ID, err))
				}
			}
		})
	}
	for _, row := range rows {
		if ctx.Err() != nil {
			break
		}
		next <- row
	}
	close(next)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return in.register.refresh(ctx)
}

// importSpecialist decides on a register that is not refreshed for each row;
// when another import came first, it decides again in the slow way. Whether the
// campaign was archived meanwhile is seen after the append.
func (in *Intake) importSpecialist(ctx context.Context, r *domain.Register, row SpecialistRow) error {
	d, last, err := setSpecialist(r, row.ID, row.wanted(r))
	if err != nil || d == nil {
		return err
	}
	receipt, control, err := record(ctx, in.cfg.Ledger, newEvent(in.cfg.Campaign, d, in.cfg.Now()), last)
	if err == nil {
		_, err = in.belowArchiving(ctx, receipt, control)
	}
	if errors.Is(err, eventstore.ErrConflict) {
		_, err = in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
			return setSpecialist(r, row.ID, row.wanted(r))
		})
	}
	return err
}
