package eventstore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Deviation is one field of the stream's configuration that is not as it must
// be.
type Deviation struct {
	Field string // as in the server's JSON and in `nats stream info`
	Want  string // JSON
	Have  string // JSON
	Risk  string // what may happen, in a sentence
}

func (d Deviation) String() string {
	return fmt.Sprintf("%s is %s and should be %s: %s", d.Field, d.Have, d.Want, d.Risk)
}

// risks says why a field matters, for those whose change is dangerous.
var risks = map[string]string{
	"allow_atomic":              "group commits are refused, so that recording becomes slow",
	"allow_direct":              "histories cannot be read",
	"allow_msg_counter":         "the stream takes only counters, so that nothing can be recorded",
	"allow_msg_schedules":       "the server may store messages that nobody recorded",
	"allow_msg_ttl":             "events may expire",
	"allow_rollup_hdrs":         "one message may replace all others",
	"compression":               "the figures about speed and size do not hold",
	"deny_delete":               "events can be deleted",
	"deny_purge":                "the ledger can be emptied",
	"discard":                   "old events are dropped when a limit is reached",
	"first_seq":                 "the ledger does not begin with sequence 1",
	"max_age":                   "events are dropped when they are older than that",
	"max_bytes":                 "recording stops, or old events are dropped, at that size",
	"max_consumers":             "readers may be refused",
	"max_msg_size":              "large events may be refused, or messages stored that are none",
	"max_msgs":                  "recording stops, or old events are dropped, at that number",
	"max_msgs_per_subject":      "old events of a subject are dropped, or new ones refused, at that number",
	"mirror":                    "the stream takes its messages from elsewhere",
	"no_ack":                    "nothing is acknowledged",
	"num_replicas":              "more or fewer servers may fail without a loss than was planned",
	"persist_mode":              "events may be acknowledged before they are durable",
	"republish":                 "every event is sent on to another subject",
	"retention":                 "events are dropped once they were read",
	"sealed":                    "a sealed ledger takes nothing, and one that ought to be sealed takes what nobody may add",
	"sources":                   "messages are copied into the ledger from elsewhere",
	"storage":                   "the ledger is lost when the server stops",
	"subject_delete_marker_ttl": "the server may store messages that nobody recorded",
	"subject_transform":         "events are stored under other subjects than they were recorded for",
	"subjects":                  "the stream stores other subjects than the ledger's",
}

// CheckConfig compares the whole configuration of the stream with what Create
// sets, or, of a ledger that is to be sealed, Seal. It goes by the server's JSON
// and not by the client library's struct, so that a setting of a newer server,
// too, is seen. No deviation is nil.
func (l *Ledger) CheckConfig(ctx context.Context, sealed bool) ([]Deviation, error) {
	deviations, err := l.checkConfig(ctx, sealed)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: check of the configuration: %w", l.config.Stream, err)
	}
	return deviations, nil
}

func (l *Ledger) checkConfig(ctx context.Context, sealed bool) ([]Deviation, error) {
	info, err := l.streamInfo(ctx)
	if err != nil {
		return nil, err
	}
	config := l.config.streamConfig()
	config.Sealed = sealed
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var want map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		return nil, err
	}
	return deviations(normal(want), normal(info.Config)), nil
}

// normal drops what makes no difference: fields with their zero value, the
// notes of the server about itself, and the mark of the creation.
func normal(config map[string]any) map[string]any {
	if metadata, ok := config["metadata"].(map[string]any); ok {
		maps.DeleteFunc(metadata, func(key string, _ any) bool {
			return key == creationKey || strings.HasPrefix(key, "_nats.")
		})
	}
	maps.DeleteFunc(config, func(_ string, value any) bool {
		switch v := value.(type) {
		case nil:
			return true
		case []any:
			return len(v) == 0
		case map[string]any:
			return len(v) == 0
		default:
			return reflect.ValueOf(v).IsZero()
		}
	})
	return config
}

func deviations(want, have map[string]any) []Deviation {
	fields := maps.Clone(want)
	maps.Copy(fields, have)
	var found []Deviation
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if reflect.DeepEqual(want[field], have[field]) {
			continue
		}
		risk, known := risks[field]
		if !known {
			risk = "its effect on a ledger is not known"
		}
		found = append(found, Deviation{field, jsonText(want[field]), jsonText(have[field]), risk})
	}
	return found
}

func jsonText(value any) string {
	if value == nil {
		return "not set"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
