-- The read model of votes. Keys are sequences of a campaign's ledger: they are
-- short, and whoever folds the ledger gets the same ones. These tables are
-- not for reports and may change with any release.
--
-- There are no foreign keys: one writer writes all tables in one transaction,
-- and a check for every row of cells would take longer than the row.

-- +goose Up
create table positions (
    campaign    int         generated always as identity primary key,
    id          text        not null unique,
    stream      text        not null,
    identity    bytea       not null check (length(identity) = 32),
    sequence    bigint      not null check (sequence > 0),
    hash        bytea       not null check (length(hash) = 32),
    recorded_at timestamptz not null,
    votes       bigint      not null,
    voters      bigint      not null,
    void        bigint      not null
) with (fillfactor = 50);
comment on table positions is 'up to where each campaign is counted; moves in the same transaction as the counts';
comment on column positions.id is 'the campaign';
comment on column positions.identity is 'SHA-256 of event 1, by which the stream is known';
comment on column positions.sequence is 'the last event that is counted';
comment on column positions.hash is 'SHA-256 of that event';
comment on column positions.voters is 'distinct voters, as far as channels know them';
comment on column positions.void is 'events of voters that count for nothing';

create table campaigns (
    campaign        int         primary key,
    title           text        not null,
    opens_at        timestamptz not null,
    closes_at       timestamptz not null,
    timezone        text        not null,
    votes_per_voter int         not null,
    status          text        not null,
    closed_at       bigint      not null
);
comment on column campaigns.closed_at is 'sequence of the close, 0 while there is none';

create table channels (
    campaign int      not null,
    channel  smallint not null,
    name     text     not null,
    identity text     not null,
    primary key (campaign, channel)
);

create table specialists (
    campaign    int     not null,
    specialist  bigint  not null,
    id          text    not null,
    name        text    not null,
    "position"  text    not null,
    institution text    not null,
    branch      text    not null,
    region      text    not null,
    withdrawn   boolean not null,
    merged_into text    not null,
    last        bigint  not null,
    primary key (campaign, specialist),
    unique (campaign, id)
);
comment on column specialists.specialist is 'sequence of the registration';
comment on column specialists.merged_into is 'id of the specialist for whom the votes count, or empty';
comment on column specialists.last is 'sequence of the last event about the specialist';

create table placements (
    campaign    int    not null,
    placement   bigint not null,
    specialist  bigint not null,
    institution text   not null,
    branch      text   not null,
    region      text   not null,
    primary key (campaign, placement)
);
comment on table placements is 'where specialists were when they got their votes';
comment on column placements.placement is 'sequence of the event that first put the specialist there';

create table totals (
    campaign   int    not null,
    specialist bigint not null,
    votes      bigint not null,
    voters     bigint not null,
    primary key (campaign, specialist)
) with (fillfactor = 50);

-- Votes come in the order of time, more or less. With the hour in front the
-- index grows at its end, however large it is.
create table cells (
    campaign  int         not null,
    hour      timestamptz not null,
    placement bigint      not null,
    channel   smallint    not null,
    votes     bigint      not null,
    primary key (campaign, hour, placement, channel)
) with (fillfactor = 80);
comment on table cells is 'votes by placement, channel and the hour in which they were cast';

-- +goose Down
drop table cells, totals, placements, specialists, channels, campaigns, positions;
