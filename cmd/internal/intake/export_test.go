package intake

import "sakipaldies.lv/ledger/domain"

// ReadImportMax is ReadImport with another limit of rows.
var ReadImportMax = readImport

// ReadAhead is another limit of what is read ahead, in bytes.
func (im *Import) ReadAhead(bytes int) { im.ahead = bytes }

// Turns is how many commands of a voter have their turn or wait for it.
func (in *Intake) Turns(voter domain.Pseudonym) int {
	in.turns.mu.Lock()
	defer in.turns.mu.Unlock()
	if t := in.turns.open[voter]; t != nil {
		return t.here
	}
	return 0
}
