package postgres_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// reports is the data source of deploy/grafana that asks Postgres.
const reports = "reports"

// dashboardQueries are the questions of Grafana's dashboards to Postgres, by the title
// of the panel or the name of the variable, for values of the variables.
func dashboardQueries(t testing.TB, values map[string]string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	check(t, err)
	type source struct{ UID string }
	queries := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(t, err)
		var d struct {
			Templating struct {
				List []struct {
					Name       string
					Datasource source
					Query      any // of other sources it is no text
				}
			}
			Panels []struct {
				Title      string
				Datasource source
				Targets    []struct{ RawSQL string }
			}
		}
		check(t, json.Unmarshal(text, &d))
		known := make(map[string]string)
		for _, v := range d.Templating.List {
			if v.Datasource.UID == reports {
				queries["$"+v.Name] = interpolated(t, v.Query.(string), known)
				known[v.Name] = values[v.Name] // a variable may name those before it
			}
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				if p.Datasource.UID == reports {
					queries[p.Title] = interpolated(t, target.RawSQL, known)
				}
			}
		}
	}
	return queries
}

// interpolated does what Grafana does with ${name:sqlstring}. Nothing else of it is
// used.
func interpolated(t testing.TB, query string, values map[string]string) string {
	t.Helper()
	query = regexp.MustCompile(`\$\{([a-z]+):sqlstring\}`).ReplaceAllStringFunc(query, func(found string) string {
		value, known := values[strings.TrimSuffix(found[2:], ":sqlstring}")]
		if !known {
			t.Errorf("there is no variable for %s in %s", found, query)
		}
		return "'" + strings.ReplaceAll(value, "'", "''") + "'"
	})
	if query == "" || strings.ContainsAny(query, "$") {
		t.Errorf("Grafana is not to change %q", query)
	}
	return query
}

// columns are those that panels and variables need.
var columns = map[string]string{
	"$report": "campaign_id", "$before": "campaign_id",
	"Totals":          "title status results votes voters as_of_time",
	"Top specialists": "rank name institution branch votes",
	"Institutions":    "rank institution votes",
	"Votes by day":    "day votes",
	"Channels":        "channel votes",
	"Year over year":  "day_of_campaign chosen compared",
}

// TestDashboardQueries asks what Grafana asks, as the login that it has: under the
// embargo, and when the results are public.
func TestDashboardQueries(t *testing.T) {
	url, random := pgtest.NewServer(t, map[string]string{"fsync": "off"}).URL("postgres"), seeded(t) // roles are the server's
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	chosen, before := projectiontest.NewHistory(t, "2018"), projectiontest.NewHistory(t, "2017")
	for _, h := range []*projectiontest.History{before, chosen} {
		campaigns.Add(h.Campaign, h.Ledger)
		for h.Last() < 60 {
			h.Vote(random.IntN)
		}
	}
	publish(before, 0)
	sql(t, url, `alter role reporting_ro login password '`+secret+`'`)
	conn, err := pgx.Connect(t.Context(), as(t, url, public, secret, ""))
	check(t, err)
	defer func() { check(t, conn.Close(t.Context())) }()
	queries := dashboardQueries(t, map[string]string{"report": chosen.Campaign, "before": before.Campaign})
	ask := func() map[string]string {
		t.Helper()
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		answers := make(map[string]string)
		for title, query := range queries {
			var names string
			names, answers[title] = shown(t, conn, query)
			if answers[title] != "" && names != columns[title] {
				t.Errorf("%s has the columns %q, want %q", title, names, columns[title])
			}
		}
		return answers
	}
	if len(queries) != len(columns) {
		t.Errorf("there are %d queries: %v", len(queries), queries)
	}
	for title, got := range ask() {
		var want string
		switch title {
		case "$report":
			want = fmt.Sprintln(before.Campaign) + fmt.Sprintln(chosen.Campaign)
		case "$before":
			want = fmt.Sprintln(before.Campaign)
		case "Totals":
			want = chosen.Tally.Register().Campaign().Title + " open embargo   \n"
		case "Year over year": // the other campaign is public
			want = "1  1.000000\n"
		}
		if got != want {
			t.Errorf("under the embargo %s shows\n%s\nwant\n%s", title, got, want)
		}
	}
	publish(chosen, 0)
	answers := ask()
	for title := range queries {
		if answers[title] == "" {
			t.Errorf("%s shows nothing", title)
		}
	}
	for title, part := range map[string]string{
		"Totals":          fmt.Sprintf("public %d %d", chosen.Tally.Votes(), chosen.Tally.Voters()),
		"Top specialists": chosen.Tally.Standings()[0].Specialist.Name,
		"Institutions":    told(t, &chosen.Tally, domain.ByInstitution),
		"Votes by day":    told(t, &chosen.Tally, domain.ByDay),
		"Channels":        told(t, &chosen.Tally, domain.ByChannel),
		"Year over year":  "1 1.000000 1.000000",
	} {
		for _, want := range strings.Split(strings.TrimSpace(part), "\n") {
			if !strings.Contains(answers[title], want) {
				t.Errorf("%s shows\n%s\nand not %s", title, answers[title], want)
			}
		}
	}
}

// told are keys and votes, a line each.
func told(t testing.TB, tally *domain.Tally, by domain.GroupBy) (text string) {
	t.Helper()
	for _, g := range grouped(t, tally, by) {
		text += fmt.Sprintln(g.Keys[0], g.Votes)
	}
	return text
}

// shown are the names of a query's columns if there are rows, and these as text, a
// line each.
func shown(t testing.TB, conn *pgx.Conn, query string) (names, rows string) {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), query).ReadAll()
	check(t, err)
	for _, f := range results[0].FieldDescriptions { // none without rows
		names += f.Name + " "
	}
	for _, row := range results[0].Rows {
		rows += string(bytes.Join(row, []byte(" "))) + "\n"
	}
	return strings.TrimSpace(names), rows
}
