package domain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// digestPrefix names the hash of a tally's digest.
const digestPrefix = "sha256:"

// Canonical is everything that was counted in the one spelling that is hashed
// when results are certified: UTF-8, a line each, fields separated by
// tabs, which no text of an event can hold. Numbers are decimal.
//
//	paldies-tally-v1
//	campaign    ID
//	sequence    of the last event that was counted
//	votes       in force
//	voters      distinct ones, as far as channels know them
//	specialist  ID, the one it was merged into or itself, withdrawn (0 or 1), votes, voters
//	cell        specialist, institution, branch, region, channel, hour (Unix time / 3600), votes
//
// Specialists are sorted by id, cells by their fields from left to right, texts
// by their bytes.
func (t *Tally) Canonical() []byte {
	lines := fmt.Appendf(nil, "paldies-tally-v1\ncampaign\t%s\nsequence\t%d\nvotes\t%d\nvoters\t%d\n",
		t.register.campaign.ID, t.Position(), t.votes, t.voters)
	specialists := slices.SortedFunc(slices.Values(t.register.Specialists()), func(a, b *Specialist) int { return strings.Compare(a.ID, b.ID) })
	for _, s := range specialists {
		votes, voters := t.Total(s.ID)
		withdrawn := 0
		if s.Withdrawn {
			withdrawn = 1
		}
		lines = fmt.Appendf(lines, "specialist\t%s\t%s\t%d\t%d\t%d\n", s.ID, t.register.Canonical(s.ID), withdrawn, votes, voters)
	}
	for _, c := range t.Cells() {
		lines = fmt.Appendf(lines, "cell\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", c.Specialist, c.Institution, c.Branch, c.Region, c.Channel, c.Hour.Unix()/3600, c.Votes)
	}
	return lines
}

// Digest is the hash of Canonical, as a certification states it.
func (t *Tally) Digest() string {
	sum := sha256.Sum256(t.Canonical())
	return digestPrefix + hex.EncodeToString(sum[:])
}
