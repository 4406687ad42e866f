package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
)

// documented is the configuration of a server that docs/channels.md shows.
func documented(t *testing.T) *server.Options {
	t.Helper()
	page, err := os.ReadFile("../../../docs/channels.md")
	check(t, err)
	_, block, _ := strings.Cut(string(page), "```nats\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatal("docs/channels.md has no block of a server's configuration")
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	check(t, os.WriteFile(file, []byte(block), 0o600))
	t.Setenv("PALDIES_PASSWORD", "operator")
	t.Setenv("WEB_PASSWORD", "web")
	options, err := server.ProcessConfigFile(file)
	check(t, err)
	return options
}

// A channel may hand in what is its own and read what became of it, and nothing
// else: neither by publishing and subscribing, nor by having the server answer
// where it may not publish.
func TestChannelPermissions(t *testing.T) {
	shown := documented(t)
	w := newWorldOn(t, func(o *server.Options) { o.Accounts, o.Users = shown.Accounts, shown.Users }, nats.UserInfo("paldies", "operator"))
	w.start()
	web, err := nats.Connect(w.server.URL(), nats.UserInfo("web", "web"))
	check(t, err)
	defer web.Close()
	body := []byte(`{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`)
	answer, err := web.Request("submissions."+campaign+".web.kads", body, closeTimeout)
	if err != nil || !strings.Contains(string(answer.Data), `"stream":"SUBMISSIONS"`) {
		t.Fatalf("its own submission: %v", err)
	}
	mobile := vote("cits", "ilze-berzina", "1")
	mobile.Channel = "mobile"
	w.decided(mobile)
	w.drained()
	js, err := jetstream.NewWithAPIPrefix(web, "PALDIES.API")
	check(t, err)
	mine, err := js.Consumer(t.Context(), queue.OutcomesStream(campaign), queue.ChannelConsumer("web"))
	check(t, err)
	m, err := mine.Next(jetstream.FetchMaxWait(closeTimeout))
	if err != nil || !strings.Contains(string(m.Data()), `"submission_id":"1"`) {
		t.Fatalf("its own outcomes: %v", err)
	}
	check(t, m.DoubleAck(t.Context()))
	if info, err := mine.Info(t.Context()); err != nil || info.NumAckPending+int(info.NumPending) > 0 {
		t.Errorf("the outcome was acked, and nothing else is there: %+v, %v", info, err)
	}

	before := w.lastSequences()
	outcomes, ledger := queue.OutcomesStream(campaign), domain.StreamName(campaign)
	inbox := web.NewInbox()
	answers, err := web.SubscribeSync(inbox + ".>")
	check(t, err)
	for _, subject := range prefixed("$JS.API.", "PALDIES.API.",
		"submissions."+campaign+".mobile.kads", "submissions."+campaign+".web", "submissions."+campaign+".web.a.b",
		"outcomes."+campaign+".web.a.b", "poison."+campaign+".web.a",
		domain.VoterSubject(campaign, domain.Pseudonym{}), domain.ControlSubject(campaign),
		"$JS.API.CONSUMER.MSG.NEXT."+outcomes+".channel_mobile", "$JS.API.CONSUMER.CREATE."+outcomes+".x", "$JS.API.CONSUMER.DELETE."+outcomes+".channel_web",
		"$JS.API.DIRECT.GET."+outcomes, "$JS.API.STREAM.MSG.GET."+outcomes, "$JS.API.STREAM.INFO."+outcomes,
		"$JS.API.DIRECT.GET.SUBMISSIONS", "$JS.API.STREAM.MSG.GET.SUBMISSIONS", "$JS.API.STREAM.PURGE.SUBMISSIONS", "$JS.API.STREAM.INFO.SUBMISSIONS",
		"$JS.API.CONSUMER.CREATE.SUBMISSIONS.x", "$JS.API.CONSUMER.MSG.NEXT.SUBMISSIONS.intake", "$JS.API.CONSUMER.RESET.SUBMISSIONS.intake",
		"$JS.API.DIRECT.GET.POISON", "$JS.API.DIRECT.GET."+ledger, "$JS.API.STREAM.INFO."+ledger, "$JS.API.STREAM.DELETE."+ledger,
		"$JS.API.CONSUMER.CREATE."+ledger+".x", "$JS.ACK.SUBMISSIONS.intake.1.1.1.1.0", "$KV.paldies.x", "$JS.API.INFO",
	) {
		check(t, web.PublishRequest(subject, inbox+"."+subject, body))
	}
	for _, reply := range []string{domain.ControlSubject(campaign), "submissions." + campaign + ".mobile.kads", "outcomes." + campaign + ".web.a.b"} {
		check(t, web.PublishRequest("PALDIES.API.CONSUMER.INFO."+outcomes+".channel_web", reply, nil))
		check(t, web.PublishRequest("submissions."+campaign+".web.x", reply, []byte("nothing")))
		check(t, web.PublishRequest("PALDIES.API.CONSUMER.MSG.NEXT."+outcomes+".channel_web", reply, []byte(`{"batch":1,"no_wait":true}`)))
	}
	everything, err := web.SubscribeSync(">")
	check(t, err)
	check(t, web.Flush())
	// What was answered was answered before a later submission went all its way.
	w.decided(vote("trešais", "zane-cirule", "3"))
	w.drained()
	check(t, web.Flush())
	for _, m := range received(t, answers) {
		// The server answers for the channel's own account, which has no JetStream.
		if !strings.Contains(string(m.Data), `"error":{`) {
			t.Errorf("%s is answered: %s", strings.TrimPrefix(m.Subject, inbox+"."), m.Data)
		}
	}
	for _, m := range received(t, everything) {
		if !strings.HasPrefix(m.Subject, "_INBOX.") && m.Subject != "ledger."+campaign+".campaign" && strings.Contains(string(m.Data), "zane-cirule") {
			t.Errorf("it hears %s: %s", m.Subject, m.Data)
		}
	}
	after := w.lastSequences()
	for stream, last := range before {
		grown := map[string]uint64{queue.SubmissionsStream: 1 + 3, queue.OutcomesStream(campaign): 1, domain.StreamName(campaign): 1, queue.PoisonStream: 3}[stream]
		if after[stream] != last+grown {
			t.Errorf("stream %s was at %d and is at %d after one vote of another channel's program", stream, last, after[stream])
		}
	}
}

// prefixed are subjects, and those of the API under its other prefix too.
func prefixed(old, other string, subjects ...string) (all []string) {
	for _, s := range subjects {
		if all = append(all, s); strings.HasPrefix(s, old) {
			all = append(all, other+s[len(old):])
		}
	}
	return all
}

// received are the messages that have come, but for those that say that nobody
// listens.
func received(t *testing.T, sub *nats.Subscription) (all []*nats.Msg) {
	t.Helper()
	for {
		n, _, err := sub.Pending()
		check(t, err)
		if n == 0 {
			return all
		}
		m, err := sub.NextMsg(closeTimeout)
		if errors.Is(err, nats.ErrNoResponders) {
			continue
		}
		check(t, err)
		all = append(all, m)
	}
}

// lastSequences are those of all streams.
func (w *world) lastSequences() map[string]uint64 {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	check(w.t, err)
	last := make(map[string]uint64)
	list := js.ListStreams(w.t.Context())
	for info := range list.Info() {
		last[info.Config.Name] = info.State.LastSeq
	}
	check(w.t, list.Err())
	return last
}
