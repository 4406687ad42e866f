package intake_test

import (
	"strings"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// specialists imports a file of specialists.
func (w *world) specialists(text string) {
	w.t.Helper()
	file, err := csvfile.NewReader("speciālisti.csv", strings.NewReader(text), intake.SpecialistColumns)
	must(w.t, err)
	rows, bad, err := intake.ReadSpecialists(file)
	must(w.t, err)
	if len(bad) > 0 {
		w.t.Fatal(bad[0])
	}
	must(w.t, w.intake(w.ledger).ImportSpecialists(w.t.Context(), rows))
}

// TestAbsentColumnsChangeNothing: a file with fewer columns says nothing about
// the others; one that has a column and leaves it empty does.
func TestAbsentColumnsChangeNothing(t *testing.T) {
	w := newWorld(t, 0)
	full := domain.Profile{Name: "Māra Liepiņa", Position: "konsultante", Institution: "Nodarbinātības aģentūra", Branch: "Gulbene", Region: "Vidzeme"}
	for _, c := range []struct {
		file   string
		change func(*domain.Profile)
	}{
		{"specialist_id,name,position,institution,branch,region\nmara,Māra Liepiņa,konsultante,Nodarbinātības aģentūra,Gulbene,Vidzeme\n", func(*domain.Profile) {}},
		{"specialist_id,name\nmara,Māra Liepiņa-Ozola\njauna,Jauna Persona\n", func(p *domain.Profile) { p.Name = "Māra Liepiņa-Ozola" }},
		{"branch;name;specialist_id\nCēsis;Māra Liepiņa-Ozola;mara\n", func(p *domain.Profile) { p.Branch = "Cēsis" }},
		{"specialist_id,name,position,region\nmara,Māra Liepiņa-Ozola,,\n", func(p *domain.Profile) { p.Position, p.Region = "", "" }},
	} {
		c.change(&full)
		w.specialists(c.file)
		s, ok := w.intake(w.ledger).Register().Specialist("mara")
		if !ok || s.Profile != full {
			t.Errorf("after %q: %+v", c.file, s.Profile)
		}
		before := len(w.events())
		w.specialists(c.file)
		if n := len(w.events()) - before; n != 0 {
			t.Errorf("the same file again makes %d events", n)
		}
	}
	w.audited()
}
