package audit

// merges looks for voters who have two votes in force for one specialist who
// was registered twice: a merge must annul one of them. It is the state of a
// ballot that is wrong, and no event of it.
func (a *auditor) merges() {
	r := a.tally.Register()
	into := make(map[string]string) // by id: whom votes count for, of all who are part of a merge
	for _, s := range r.Specialists() {
		if canonical := r.Canonical(s.ID); canonical != s.ID {
			into[s.ID], into[canonical] = canonical, canonical
		}
	}
	if len(into) == 0 {
		return
	}
	for b := range a.ballots.all() {
		if len(b.votes) > 1 {
			a.twice(b, into)
		}
	}
}

// twice reports each vote that counts beside an earlier one for the same
// specialist.
func (a *auditor) twice(b *ballot, into map[string]string) {
	first := make(map[string]vote)
	for _, v := range b.votes {
		id := a.whom(v).ID
		canonical, merged := into[id]
		if !merged || v.state != inForce || v.forged {
			continue
		}
		earlier, twice := first[canonical]
		if !twice {
			first[canonical] = v
			continue
		}
		a.mismatch(CheckMerged, 0, "one voter's events %d and %d both count for %s, as %s and as %s; `paldies specialist merge` annuls one of them when it is run again",
			earlier.sequence, v.sequence, canonical, a.whom(earlier).ID, id)
	}
}
