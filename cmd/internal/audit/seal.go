package audit

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// The checks of what was signed. They are on the checklist when there is a Seal.
const (
	CheckSigned    = "signed"
	CheckFiles     = "files"
	CheckCertified = "certified"
)

// SignersRecord is where a head comes from that is recorded beside the ledger and
// bears no signature.
const SignersRecord = "the signer's record"

// Seal is what was signed about the events, and the files that are to follow
// from them.
type Seal struct {
	Heads    []transparency.Head
	Findings []transparency.Finding // about signatures and checkpoints themselves
	Folder   *transparency.Folder   // nil when the events do not come from one
}

// rebuild is nil without a Seal.
func (s *Seal) rebuild() *transparency.Rebuild {
	if s == nil || len(s.Heads) == 0 && s.Folder == nil {
		return nil
	}
	return transparency.NewRebuild(s.Folder, s.Heads)
}

// offline says that the events come from a folder: there is no stream.
func (s *Seal) offline() bool { return s != nil && s.Folder != nil }

// seal adds what the rebuilt tree shows; it is nil when nothing was signed.
func (r *Report) seal(s *Seal, rebuilt *transparency.Rebuild) {
	signed := Check{Name: CheckSigned, Title: "Nothing was signed yet, as far as is known here", Status: NotChecked}
	files := Check{Name: CheckFiles, Title: "Every file of the log follows from the events"}
	findings := s.Findings
	var newest, size uint64
	if rebuilt != nil {
		size = rebuilt.Size()
		findings = append(findings, rebuilt.Finish()...)
	}
	unproven := false
	for _, h := range s.Heads {
		newest = max(newest, h.Size)
		unproven = unproven || h.From == SignersRecord
	}
	if len(s.Heads) > 0 {
		signed.Title, signed.Status = fmt.Sprintf("Everything that was signed, %s, follows from the events", plural(len(s.Heads), "tree head")), Passed
	}
	if unproven && len(s.Heads) == 1 {
		signed.Title = fmt.Sprintf("The events are those of the signer's record, of %s; only a log or a checkpoint bears a signature", plural(int(newest), "event"))
	}
	if unsigned := size - min(size, newest); unsigned > 0 {
		signed.Title += fmt.Sprintf("; the last %s not signed yet", plural(int(unsigned), "event"))
	}
	for _, f := range findings {
		check := &signed
		if f.File {
			check = &files
		}
		check.Mismatches = append(check.Mismatches, Mismatch{Sequence: f.Sequence, Text: f.Path + ": " + f.Text})
	}
	r.addAs(signed, signed.Status)
	if s.offline() && size < newest {
		r.addAs(files, NotChecked) // entries are missing, so that their files could not be compared
	} else if s.offline() {
		r.addAs(files, Passed)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// addAs puts a check on the list, with this status unless something was found.
func (r *Report) addAs(c Check, status Status) {
	c.Status = status
	if len(c.Mismatches) > 0 {
		c.Status = Failed
	}
	r.Checks = append(r.Checks, c)
}

// certification is an event that certifies results.
type certification struct {
	sequence uint64
	domain.ResultsCertified
}

// certifications counts again what was certified, and compares the tree heads
// that certifications name.
func (r *Report) certifications(ctx context.Context, l Ledger, codec *domain.Codec, list []certification) error {
	if len(list) == 0 {
		return nil
	}
	check := Check{Name: CheckCertified, Title: fmt.Sprintf("Certified results (%d) are those of the events", len(list))}
	for _, c := range list {
		if c.Sequence >= c.sequence {
			continue // on the list already
		}
		if c.Sequence > r.tally.Position() {
			check.Mismatches = append(check.Mismatches, Mismatch{c.sequence, fmt.Sprintf("the results as of event %d cannot be counted", c.Sequence)})
			continue
		}
		tally, err := r.tallyAt(ctx, l, codec, c.Sequence)
		if err != nil {
			return err
		}
		if digest := tally.Digest(); digest != c.TallyDigest {
			check.Mismatches = append(check.Mismatches, Mismatch{c.sequence, fmt.Sprintf("the results as of event %d have the digest %s, certified was %s", c.Sequence, digest, c.TallyDigest)})
		}
		doubled, err := doubledAt(ctx, l, codec, tally.Register(), c.Sequence)
		if err != nil {
			return fmt.Errorf("campaign %s: certified votes: %w", r.Campaign, err)
		}
		doubled = slices.DeleteFunc(doubled, func(d domain.Annulment) bool { return r.accuses(d.Vote) })
		if len(doubled) > 0 {
			check.Mismatches = append(check.Mismatches, Mismatch{c.sequence, fmt.Sprintf("the results as of event %d count %d votes beside another one of their voter for a specialist who was registered twice, the first is event %d",
				c.Sequence, len(doubled), doubled[0].Vote)})
		}
	}
	roots, err := certifiedRoots(ctx, l, list)
	if err != nil {
		return fmt.Errorf("campaign %s: certified roots: %w", r.Campaign, err)
	}
	check.Mismatches = append(check.Mismatches, roots...)
	r.addAs(check, Passed)
	return nil
}

// accuses says whether something is wrong with an event itself: what was honestly
// certified on top of a forgery is no second mismatch.
func (r *Report) accuses(sequence uint64) bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool {
		return slices.ContainsFunc(c.Mismatches, func(m Mismatch) bool { return m.Sequence == sequence })
	})
}

// doubledAt are the votes that counted twice for a merged specialist as of an event.
func doubledAt(ctx context.Context, l Ledger, codec *domain.Codec, r *domain.Register, to uint64) ([]domain.Annulment, error) {
	d := domain.NewDoubles(r)
	if !d.Possible() {
		return nil, nil
	}
	err := l.Replay(ctx, 1, to, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := codec.Decode(rec.Data)
			if err != nil {
				return err
			}
			d.Apply(rec.Sequence, e)
		}
		return nil
	})
	return d.Surplus(""), err
}

// certifiedRoots compares the roots that certifications name. They are rare, so
// that the events may be hashed once more for them.
func certifiedRoots(ctx context.Context, l Ledger, list []certification) (found []Mismatch, err error) {
	var heads []transparency.Head
	for _, c := range list {
		if c.LogRoot == "" && c.LogSize == 0 {
			continue // it names no tree
		}
		root, err := tlog.ParseHash(c.LogRoot)
		if err != nil || root.String() != c.LogRoot {
			found = append(found, Mismatch{c.sequence, fmt.Sprintf("log_root %q is no hash in base64", c.LogRoot)})
			continue
		}
		if c.LogSize < c.Sequence || c.LogSize >= c.sequence {
			found = append(found, Mismatch{c.sequence, fmt.Sprintf("log_size is %d: a tree that holds the certified events and not the certification has %d to %d", c.LogSize, c.Sequence, c.sequence-1)})
			continue
		}
		heads = append(heads, transparency.Head{Size: c.LogSize, Root: root, From: fmt.Sprintf("event %d, which certifies results", c.sequence)})
	}
	if len(heads) == 0 {
		return found, nil
	}
	rebuilt := transparency.NewRebuild(nil, heads)
	err = l.Replay(ctx, 1, list[len(list)-1].sequence, func(batch []eventstore.Recorded) error {
		rebuilt.AppendEvents(batch)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range rebuilt.Finish() {
		found = append(found, Mismatch{Text: f.Path + ": " + f.Text})
	}
	return found, nil
}
