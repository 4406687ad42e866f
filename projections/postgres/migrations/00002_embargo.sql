-- Which results are public: those of the certification that was published.

-- +goose Up
alter table campaigns
    add column published_event    bigint not null default 0,
    add column published_sequence bigint not null default 0;
comment on column campaigns.published_event is 'sequence of the certification that was published, 0 under the embargo';
comment on column campaigns.published_sequence is 'the public results are those of events 1 to this one, 0 under the embargo';

-- +goose Down
alter table campaigns drop column published_event, drop column published_sequence;
