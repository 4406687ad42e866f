package projections

import (
	"log/slog"

	"sakipaldies.lv/ledger/domain"
)

// Follower keeps a read model in memory of every campaign: a Runner and its
// MemoryModels.
type Follower struct {
	*Runner
	*MemoryModels
}

// NewFollower is a Follower that follows nothing until it is run.
func NewFollower(campaigns Campaigns, codec *domain.Codec, log *slog.Logger) *Follower {
	models := new(MemoryModels)
	return &Follower{NewRunner(Config{Campaigns: campaigns, Models: models, Codec: codec, Log: log}), models}
}
