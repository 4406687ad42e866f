package report

import (
	"fmt"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// Language is that of a report.
type Language string

// The languages of reports.
const (
	Latvian Language = "lv"
	English Language = "en"
)

// ParseLanguage accepts "lv" and "en".
func ParseLanguage(s string) (Language, error) {
	switch l := Language(s); l {
	case Latvian, English:
		return l, nil
	}
	return "", fmt.Errorf("language %q: use %s or %s", s, Latvian, English)
}

// words are the texts of the templates, by name.
var words = map[string]struct{ lv, en string }{
	"protocol":   {"Kampaņas protokols", "Protocol of a campaign"},
	"campaign":   {"Kampaņa", "Campaign"},
	"status":     {"Stāvoklis", "Status"},
	"window":     {"Balsošanas laiks", "Voting"},
	"from":       {"no", "from"},
	"until":      {"līdz", "to"},
	"timezone":   {"Laika josla", "Time zone"},
	"closing":    {"Slēgta", "Closed"},
	"as_of":      {"Sagatavots pēc notikuma", "As of event"},
	"event":      {"notikums", "event"},
	"made":       {"Izgatavots", "Made"},
	"votes_head": {"Balsis", "Votes"},

	"open":      {"atvērta", "open"},
	"closed":    {"slēgta", "closed"},
	"certified": {"rezultāti apstiprināti", "results certified"},
	"published": {"rezultāti publicēti", "results published"},
	"archived":  {"arhivēta", "archived"},

	"cast":            {"Nodotas", "Cast"},
	"active":          {"Spēkā", "Active"},
	"retracted":       {"Balsotāja atsauktas", "Taken back by the voter"},
	"annulled":        {"Anulētas ar lēmumu", "Annulled by a decision"},
	"void":            {"Neskaitāmas (saņemtas pēc slēgšanas vai nederīgas)", "Void (recorded after the close, or invalid)"},
	"voters":          {"Dažādi balsotāji (kanālos, kas zina, kas balso)", "Distinct voters (by channels that know who votes)"},
	"channels":        {"Spēkā esošās balsis pa kanāliem", "Active votes by channel"},
	"channel":         {"Kanāls", "Channel"},
	"identity":        {"Identitāte", "Identity"},
	"verified":        {"pārbaudīta", "verified"},
	"declared":        {"balsotāja norādīta", "declared"},
	"none":            {"nav zināma", "none"},
	"votes":           {"Balsis", "Votes"},
	"refusals":        {"Noraidītie iesniegumi", "Refused submissions"},
	"refusals_queue":  {"Rindā iesniegtie, kuru iznākums vēl glabājas (100 dienas). Citur iesniegtos noraida uzreiz, un tos neuzskaita.", "Of the queue, as far as their outcomes are kept (100 days). Submissions by other ways are refused at once, and such refusals are not recorded."},
	"refusals_none":   {"Rindā nekas nav noraidīts. Citur iesniegtos noraida uzreiz, un tos neuzskaita.", "Nothing was refused in the queue. Submissions by other ways are refused at once, and such refusals are not recorded."},
	"refusals_unused": {"Rindā neviens iesniegums nav izlemts. Citur iesniegtos noraida uzreiz, un tos neuzskaita.", "No submission was decided in the queue. Submissions by other ways are refused at once, and such refusals are not recorded."},
	"refusals_silent": {"Nav zināmi: iesniegumus noraida uzreiz, un noraidījumus neuzskaita.", "Not known: submissions are refused at once, and refusals are not recorded."},
	"code":            {"Kods", "Code"},
	"why":             {"Iemesls", "Reason"},
	"submissions":     {"Iesniegumi", "Submissions"},

	"annulments":         {"Anulētās balsis pa lēmumiem", "Annulments by decision"},
	"annulments_none":    {"Neviena balss nav anulēta.", "No vote was annulled."},
	"decision":           {"Lēmums", "Decision"},
	"events":             {"notikumi", "events"},
	"specialist":         {"Speciālists", "Specialist"},
	"before":             {"Pirms", "Before"},
	"removed":            {"Anulētas", "Annulled"},
	"after":              {"Pēc", "After"},
	"results":            {"Rezultāti", "Results"},
	"results_best":       {"Pirmās vietas; vienāds balsu skaits dala vietu. Pilnu sarakstu rāda", "The first places; equals share one. The whole list is shown by"},
	"rank":               {"Vieta", "Rank"},
	"institution":        {"Iestāde", "Institution"},
	"by_institution":     {"Iestādes", "Institutions"},
	"institutions":       {"Balva iestādēm", "Award for institutions"},
	"certification":      {"Apstiprinātie rezultāti", "Certified results"},
	"certified_none":     {"Rezultāti vēl nav apstiprināti: šie ir pagaidu skaitļi.", "The results are not certified yet: these figures are provisional."},
	"certified_as_of":    {"apstiprina notikumu", "certifies events"},
	"recounted":          {"pārskaitot sakrīt", "counted again, the same"},
	"supersedes":         {"labo notikumu", "corrects event"},
	"public":             {"publiskie rezultāti", "these are the public results"},
	"not_public":         {"nav publiski", "not public"},
	"changed":            {"Pēc apstiprināšanas rezultātus vai balvas mainīja notikums", "The results or the awards were changed after the certification by event"},
	"digest":             {"Skaitījuma kontrolsumma", "Digest of the tally"},
	"log":                {"Parakstītais žurnāls", "The signed log"},
	"log_none":           {"Žurnāls vēl nav parakstīts.", "Nothing is signed yet."},
	"log_elsewhere":      {"Žurnālu paraksta cits dators; tur ir tā kopija un pārbaudes atslēga.", "The log is signed on another computer; a copy of it and the verifier key are there."},
	"log_size":           {"Notikumi žurnālā", "Events in the log"},
	"log_root":           {"Saknes jaucējvērtība", "Root hash"},
	"log_key":            {"Pārbaudes atslēga", "Verifier key"},
	"log_behind":         {"Vēl nav parakstīti notikumi pēc", "Not signed yet are the events after"},
	"reproducible":       {"Kas noraidīts un kas parakstīts, te nav teikts: tas attiecas uz izgatavošanas brīdi, bet šo protokolu tieši tādu var izgatavot jebkad.", "What was refused and what is signed is left out: it is of the moment of making, and this protocol can be made just so at any time."},
	"verify":             {"Kā pārbaudīt", "How to check this"},
	"verify_text":        {"Ar žurnāla kopiju un pārbaudes atslēgu failā to var jebkurš, bez servera un neuzticoties nevienam:", "With a copy of the log and the verifier key in a file anybody can, without a server and without trusting anybody:"},
	"awards":             {"Balvas", "Awards"},
	"awards_certified":   {"Pēc apstiprinātiem rezultātiem, notikums", "By the results that were certified by event"},
	"awards_provisional": {"Pagaidu aprēķins,", "Provisional,"},
	"awards_as_of":       {"pēc notikumiem", "by events"},
	"specialists":        {"Balva speciālistiem", "Award for specialists"},
	"letters":            {"Pateicības raksti", "Letters of gratitude"},
	"passed_over":        {"Saņemtu, ja nebūtu izslēgti no kampaņas", "Would have been honoured, had they not been withdrawn"},
	"boundary":           {"Pēdējam saņēmējam balsu skaits ir %d, nākamajam %d.", "The last one has %d votes, the next %d."},
	"boundary_end":       {"Pēdējam saņēmējam balsu skaits ir %d; vairāk neviens par balvu nesacenšas.", "The last one has %d votes; nobody else is left."},
	"boundary_nobody":    {"Nesaņem neviens.", "Nobody gets it."},
	"boundary_tied":      {"Uz robežas balsu skaits %d ir vienāds %d kandidātiem, vietu skaits ir %d; saņem visi.", "At the boundary, %[2]d tie with %[1]d votes for %[3]d places; all of them get it."},
	"boundary_decided":   {"Uz robežas balsu skaits %d ir vienāds %d kandidātiem, vietu skaits ir %d; izvēli nosaka lēmums %s (notikums %d): %s", "At the boundary, %[2]d tie with %[1]d votes for %[3]d places; decision %[4]s (event %[5]d) chose: %[6]s"},
	"boundary_unfit":     {"Lēmums (notikums %d) nav piemērojams: vienāds balsu skaits vairs nav tiem pašiem kandidātiem.", "The decision of event %d does not apply: others tie now, or nobody."},
	"verify_ledger":      {"Tur, kur balsis reģistrē:", "Where the votes are recorded:"},
}

// word is a text in a language. A name that is not there is a mistake in a
// template.
func (l Language) word(name string) (string, error) {
	w, ok := words[name]
	switch {
	case !ok:
		return "", fmt.Errorf("there is no text %q", name)
	case l == English:
		return w.en, nil
	}
	return w.lv, nil
}

// sentence says in words why something was refused.
func (l Language) sentence(code domain.Code) string {
	r := &domain.Refusal{Code: code}
	if l == English {
		return r.English()
	}
	return r.Latvian()
}

// moment is a time as people read it, with the offset.
func moment(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("2006-01-02 15:04:05 -07:00")
}
