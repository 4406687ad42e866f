package report

// endingPage is for how many events a page of endings is, 64 KiB.
const endingPage = 8 << 10

// ending is what ended the vote at a sequence.
type ending struct {
	by       uint32 // sequence of the event; 0 while the vote is active
	decision uint32 // index + 1 of the decision that annulled it; 0 when it was retracted
}

// endings are those of all votes: 8 bytes an event, and nothing for pages of
// events of which none was ended. The texts of decisions are few.
type endings struct {
	pages     []*[endingPage]ending
	decisions []string
	known     map[string]uint32 // index + 1
}

// retracted and annulled note what ended a vote, and say whether it was the first
// to do so.
func (e *endings) retracted(vote, by uint64) bool { return e.set(vote, by, 0) }

func (e *endings) annulled(vote, by uint64, decision string) bool {
	n, ok := e.known[decision]
	if !ok {
		if e.known == nil {
			e.known = make(map[string]uint32)
		}
		e.decisions = append(e.decisions, decision)
		n = uint32(len(e.decisions))
		e.known[decision] = n
	}
	return e.set(vote, by, n)
}

// set passes over what is not below the event itself, for that is no vote: the
// tally took it for one, and the totals show it.
func (e *endings) set(vote, by uint64, decision uint32) bool {
	if vote >= by {
		return false
	}
	page := int(vote / endingPage)
	for page >= len(e.pages) {
		e.pages = append(e.pages, nil)
	}
	if e.pages[page] == nil {
		e.pages[page] = new([endingPage]ending)
	}
	at := &e.pages[page][vote%endingPage]
	if at.by != 0 {
		return false
	}
	*at = ending{by: uint32(by), decision: decision}
	return true
}

// of is what became of a vote that is not void. The decision is empty unless the
// vote was annulled, by is 0 when the vote is active.
func (e *endings) of(vote uint64) (s status, by uint64, decision string) {
	page := int(vote / endingPage)
	if page >= len(e.pages) || e.pages[page] == nil {
		return active, 0, ""
	}
	switch end := e.pages[page][vote%endingPage]; {
	case end.by == 0:
		return active, 0, ""
	case end.decision == 0:
		return retracted, uint64(end.by), ""
	default:
		return annulled, uint64(end.by), e.decisions[end.decision-1]
	}
}
