-- What people with SQL read. The views of reporting_v1 are a promise: columns and
-- views are only added. What they read in this schema may change at any time.
--
-- The embargo is in "reported": a campaign that it does not show is never
-- counted for who asks. The counts come out of functions that run as their
-- owner, for each campaign that is shown: who asks needs no right on the tables,
-- and EXPLAIN tells a function and no numbers of rows behind it. A condition of
-- a view would not do. It can be evaluated late, EXPLAIN shows estimates from
-- rows that nobody may see, and EXPLAIN ANALYZE how many were filtered out. What
-- every batch writes is not looked at for a campaign that is not shown, since the
-- number of its pages tells how often it was written; so the keys of campaigns are
-- in a table of their own.
--
-- The functions sort, because the order of rows can give away the plan, and so
-- how many rows other campaigns have. The views do not, for whoever reads them
-- sorts anyway. Names carry the Latvian collation, in whose order they then come.

-- +goose Up
create table live (
    campaign int  primary key,
    id       text not null unique
);
comment on table live is 'the campaigns and the keys of their read models; written when there is another one, and not when counts change';
insert into live select campaign, id from positions;

-- +goose StatementBegin
create function reported_position(of_campaign int, published_sequence bigint, everything boolean)
returns table (results text, sequence bigint, recorded_at timestamptz, votes bigint, voters bigint)
language sql stable security definer
begin atomic
    select case when $2 = 0 then 'embargo' when p.changed > $2 then 'correction pending' else 'public' end,
           p.sequence, p.recorded_at, p.votes, p.voters
    from positions p
    where ($2 <> 0 or $3) and p.campaign = $1
    union all
    select 'embargo', null, null, null, null
    where $2 = 0 and not $3;
end;
-- +goose StatementEnd

create view reported with (security_barrier) as
select c.campaign, l.id, c.title, c.timezone, c.opens_at, c.closes_at, c.status, p.results,
       p.results = 'public' or a.everything as shown,
       c.published_sequence, p.sequence, p.recorded_at, p.votes, p.voters
from live l
join campaigns c on c.campaign = l.campaign
cross join (
    -- The role need not exist; then nobody is the Chancellery.
    select exists (select from pg_catalog.pg_roles where rolname = 'reporting_chancellery' and pg_has_role(oid, 'USAGE')) as everything
) a
cross join lateral reported_position(c.campaign, c.published_sequence, a.everything) p;
comment on view reported is 'the campaigns, and whether who asks may see their counts';
comment on column reported.results is 'public only while nothing has changed since what was certified and published: there are no other counts here than those of the position';

-- +goose StatementBegin
create function reported_specialists(of_campaign int)
returns table (id text, name text, institution text, branch text, region text, rank bigint, votes bigint, voters bigint)
language sql stable security definer
begin atomic
    select s.id, s.name, s.institution, s.branch, s.region,
           case when not s.withdrawn then rank() over (partition by s.withdrawn order by s.votes desc) end,
           s.votes, s.voters
    from standings($1) s
    order by s.withdrawn, s.votes desc, s.specialist;
end;
-- +goose StatementEnd

-- +goose StatementBegin
create function reported_places(of_campaign int)
returns table (institution text, branch text, votes bigint)
language sql stable security definer
begin atomic
    select p.institution, p.branch, sum(p.votes)::bigint from places($1) p
    group by p.institution, p.branch
    order by p.institution collate "C", p.branch collate "C";
end;
-- +goose StatementEnd

-- +goose StatementBegin
create function reported_channels(of_campaign int)
returns table (channel text, identity text, votes bigint)
language sql stable security definer
begin atomic
    select c.name, c.identity, coalesce(sum(h.votes), 0)::bigint
    from channels c left join hours h on h.campaign = c.campaign and h.channel = c.channel
    where c.campaign = $1
    group by c.channel, c.name, c.identity
    order by c.channel;
end;
-- +goose StatementEnd

-- +goose StatementBegin
create function reported_hours(of_campaign int)
returns table (hour timestamptz, local timestamp, votes bigint)
language sql stable security definer
begin atomic
    select h.hour, h.local, sum(h.votes)::bigint
    from hours h where h.campaign = $1 and h.votes <> 0 group by h.hour, h.local order by h.hour;
end;
-- +goose StatementEnd

-- +goose StatementBegin
create function reported_days(of_campaign int)
returns table (number int, day date, votes bigint)
language sql stable security definer
begin atomic
    with days as (
        select h.local::date - c.opens_on + 1 as number, sum(h.votes)::bigint as votes
        from campaigns c join hours h on h.campaign = c.campaign
        where c.campaign = $1 and h.votes <> 0
        group by 1
    )
    select n, c.opens_on + n - 1, coalesce(d.votes, 0)
    from campaigns c
    cross join (select least(1, min(number)) as first, max(number) as last from days) span
    cross join lateral generate_series(span.first, span.last) n
    left join days d on d.number = n
    where c.campaign = $1
    order by n;
end;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
begin -- without the right to create schemas even "if not exists" is refused
    if not exists (select from pg_namespace where nspname = 'reporting_v1') then
        create schema reporting_v1;
    end if;
end $$;
-- +goose StatementEnd
comment on schema reporting_v1 is 'results of campaigns for reports; columns and views are only added';

create view reporting_v1.campaign_status with (security_barrier) as
select id as campaign_id, title, timezone, opens_at, closes_at, status, results,
       nullif(published_sequence, 0) as published_sequence,
       case when shown then votes end as votes,
       case when shown then voters end as voters,
       case when shown then sequence end as as_of_sequence,
       case when shown then recorded_at end as as_of_time
from reported;
comment on view reporting_v1.campaign_status is 'every campaign, and whether its counts are public';
comment on column reporting_v1.campaign_status.campaign_id is 'the campaign';
comment on column reporting_v1.campaign_status.title is 'its title';
comment on column reporting_v1.campaign_status.timezone is 'IANA name of the time zone in which its days are counted';
comment on column reporting_v1.campaign_status.opens_at is 'the first moment at which a vote may be cast';
comment on column reporting_v1.campaign_status.closes_at is 'the first moment at which none may be cast any more';
comment on column reporting_v1.campaign_status.status is 'open, closed, certified, published or archived';
comment on column reporting_v1.campaign_status.results is 'embargo: not published; public: published, and unchanged since; correction pending: changed since they were certified, and public again once that is certified and published';
comment on column reporting_v1.campaign_status.published_sequence is 'the results that were published are those of events 1 to this one; null under the embargo';
comment on column reporting_v1.campaign_status.votes is 'votes in force; null where they may not be seen';
comment on column reporting_v1.campaign_status.voters is 'distinct voters with a vote in force, of channels that know who votes; null where they may not be seen';
comment on column reporting_v1.campaign_status.as_of_sequence is 'the last event that is counted; null where it may not be seen';
comment on column reporting_v1.campaign_status.as_of_time is 'when that event was recorded; null where it may not be seen';

create view reporting_v1.specialist_totals with (security_barrier) as
select r.id as campaign_id, s.id as specialist_id, s.name collate "lv-x-icu" as name, s.institution collate "lv-x-icu" as institution,
       s.branch collate "lv-x-icu" as branch, s.region collate "lv-x-icu" as region, s.rank, s.votes, s.voters,
       r.sequence as as_of_sequence, r.recorded_at as as_of_time
from reported r
cross join lateral reported_specialists(r.campaign) s
where r.shown;
comment on view reporting_v1.specialist_totals is 'every specialist of a campaign, those without votes too; who was merged into another is not there, the votes count for the other';
comment on column reporting_v1.specialist_totals.campaign_id is 'the campaign';
comment on column reporting_v1.specialist_totals.specialist_id is 'the specialist; the same in all campaigns';
comment on column reporting_v1.specialist_totals.name is 'of today';
comment on column reporting_v1.specialist_totals.institution is 'of today';
comment on column reporting_v1.specialist_totals.branch is 'of today; empty where there is none';
comment on column reporting_v1.specialist_totals.region is 'of today; empty where there is none';
comment on column reporting_v1.specialist_totals.rank is 'place by votes, shared by those with equally many (1, 1, 3); null for who was withdrawn';
comment on column reporting_v1.specialist_totals.votes is 'votes in force';
comment on column reporting_v1.specialist_totals.voters is 'those of them by channels that know who votes, each by another voter';
comment on column reporting_v1.specialist_totals.as_of_sequence is 'the last event that is counted';
comment on column reporting_v1.specialist_totals.as_of_time is 'when that event was recorded';

create view reporting_v1.institution_totals with (security_barrier) as
select r.id as campaign_id, p.institution collate "lv-x-icu" as institution,
       rank() over (partition by r.id order by sum(p.votes) desc) as rank, sum(p.votes)::bigint as votes,
       r.sequence as as_of_sequence, r.recorded_at as as_of_time
from reported r
cross join lateral reported_places(r.campaign) p
where r.shown
group by r.id, r.sequence, r.recorded_at, p.institution;
comment on view reporting_v1.institution_totals is 'votes of each institution, by where specialists were at the time of the vote; institutions without votes too';
comment on column reporting_v1.institution_totals.campaign_id is 'the campaign';
comment on column reporting_v1.institution_totals.institution is 'the institution';
comment on column reporting_v1.institution_totals.rank is 'place by votes, shared by those with equally many';
comment on column reporting_v1.institution_totals.votes is 'votes in force';
comment on column reporting_v1.institution_totals.as_of_sequence is 'the last event that is counted';
comment on column reporting_v1.institution_totals.as_of_time is 'when that event was recorded';

create view reporting_v1.branch_totals with (security_barrier) as
select r.id as campaign_id, p.institution collate "lv-x-icu" as institution, p.branch collate "lv-x-icu" as branch,
       rank() over (partition by r.id order by p.votes desc) as rank, p.votes,
       r.sequence as as_of_sequence, r.recorded_at as as_of_time
from reported r
cross join lateral reported_places(r.campaign) p
where r.shown;
comment on view reporting_v1.branch_totals is 'votes of each branch of an institution, by where specialists were at the time of the vote; branches without votes too';
comment on column reporting_v1.branch_totals.campaign_id is 'the campaign';
comment on column reporting_v1.branch_totals.institution is 'the institution';
comment on column reporting_v1.branch_totals.branch is 'the branch; empty for those who belong to none';
comment on column reporting_v1.branch_totals.rank is 'place by votes among all branches, shared by those with equally many';
comment on column reporting_v1.branch_totals.votes is 'votes in force';
comment on column reporting_v1.branch_totals.as_of_sequence is 'the last event that is counted';
comment on column reporting_v1.branch_totals.as_of_time is 'when that event was recorded';

create view reporting_v1.timeline_daily with (security_barrier) as
select r.id as campaign_id, d.day, d.votes,
       (sum(d.votes) over (partition by r.id order by d.day))::bigint as cumulative_votes
from reported r
cross join lateral reported_days(r.campaign) d
where r.shown;
comment on view reporting_v1.timeline_daily is 'votes in force by the day on which they were cast, from the first day of the campaign to the last one with votes, days without votes too';
comment on column reporting_v1.timeline_daily.campaign_id is 'the campaign';
comment on column reporting_v1.timeline_daily.day is 'the day in the campaign''s time zone';
comment on column reporting_v1.timeline_daily.votes is 'votes that were cast on it';
comment on column reporting_v1.timeline_daily.cumulative_votes is 'votes that were cast on it or before';

create view reporting_v1.timeline_hourly with (security_barrier) as
select r.id as campaign_id, h.hour as hour_start, h.local as local_time, h.local - (h.hour at time zone 'UTC') as utc_offset, h.votes
from reported r
cross join lateral reported_hours(r.campaign) h
where r.shown;
comment on view reporting_v1.timeline_hourly is 'votes in force by the hour in which they were cast, hours with votes only; an hour that comes twice, as on 27 October 2019 in Riga, is two rows with one local_time';
comment on column reporting_v1.timeline_hourly.campaign_id is 'the campaign';
comment on column reporting_v1.timeline_hourly.hour_start is 'the moment at which the hour begins';
comment on column reporting_v1.timeline_hourly.local_time is 'what clocks show then in the campaign''s time zone';
comment on column reporting_v1.timeline_hourly.utc_offset is 'by how much they are ahead of UTC';
comment on column reporting_v1.timeline_hourly.votes is 'votes that were cast in it';

create view reporting_v1.channel_mix with (security_barrier) as
select r.id as campaign_id, c.channel, c.identity, c.votes,
       round(c.votes / nullif(sum(c.votes) over (partition by r.id), 0), 6) as share
from reported r
cross join lateral reported_channels(r.campaign) c
where r.shown;
comment on view reporting_v1.channel_mix is 'votes in force by the channel through which they came, channels without votes too';
comment on column reporting_v1.channel_mix.campaign_id is 'the campaign';
comment on column reporting_v1.channel_mix.channel is 'the channel';
comment on column reporting_v1.channel_mix.identity is 'how it knows who votes: verified, declared or none';
comment on column reporting_v1.channel_mix.votes is 'votes in force';
comment on column reporting_v1.channel_mix.share is 'its part of the campaign''s votes, 0 to 1; null while there are none';

create view reporting_v1.year_over_year with (security_barrier) as
select r.id as campaign_id, d.number as day_of_campaign, d.day, d.votes,
       (sum(d.votes) over (partition by r.id order by d.number))::bigint as cumulative_votes,
       round(sum(d.votes) over (partition by r.id order by d.number) / nullif(sum(d.votes) over (partition by r.id), 0), 6) as cumulative_share
from reported r
cross join lateral reported_days(r.campaign) d
where r.shown;
comment on view reporting_v1.year_over_year is 'the days of all campaigns side by side: day 1 is the one on which a campaign opens';
comment on column reporting_v1.year_over_year.campaign_id is 'the campaign';
comment on column reporting_v1.year_over_year.day_of_campaign is 'the number of that day, counted from the day on which the campaign opens';
comment on column reporting_v1.year_over_year.day is 'the day in the campaign''s time zone';
comment on column reporting_v1.year_over_year.votes is 'votes that were cast on it';
comment on column reporting_v1.year_over_year.cumulative_votes is 'votes that were cast on it or before';
comment on column reporting_v1.year_over_year.cumulative_share is 'their part of all votes of the campaign until now, 0 to 1';

create view reporting_v1.velocity with (security_barrier) as
select r.id as campaign_id, h.hour as hour_start, h.votes,
       (sum(h.votes) over day)::bigint as votes_24h,
       (sum(h.votes) over week)::bigint as votes_7d,
       round(sum(h.votes) over day / 24, 2) as votes_per_hour_24h,
       round(sum(h.votes) over week / 168, 2) as votes_per_hour_7d
from reported r
cross join lateral reported_hours(r.campaign) h
where r.shown
window day as (partition by r.id order by h.hour range between interval '23 hours' preceding and current row),
       week as (partition by r.id order by h.hour range between interval '167 hours' preceding and current row);
comment on view reporting_v1.velocity is 'how fast votes come: each hour with votes, and the 24 hours and 7 days that end with it';
comment on column reporting_v1.velocity.campaign_id is 'the campaign';
comment on column reporting_v1.velocity.hour_start is 'the moment at which the hour begins';
comment on column reporting_v1.velocity.votes is 'votes that were cast in it';
comment on column reporting_v1.velocity.votes_24h is 'votes of the 24 hours that end with it';
comment on column reporting_v1.velocity.votes_7d is 'votes of the 168 hours that end with it';
comment on column reporting_v1.velocity.votes_per_hour_24h is 'the mean of the 24 hours';
comment on column reporting_v1.velocity.votes_per_hour_7d is 'the mean of the 168 hours';

-- Only the roles of reporting_v1 get rights here, see Migrate. Default privileges
-- of the database may have given some to everybody.
revoke all on schema reporting_v1 from public;
revoke all on all tables in schema reporting_v1 from public;
revoke all on table reported from public;
revoke all on function reported_position, reported_specialists, reported_places, reported_channels, reported_hours, reported_days from public;

-- +goose Down
drop schema reporting_v1 cascade;
drop function reported_specialists, reported_places, reported_channels, reported_hours, reported_days;
drop view reported;
drop function reported_position;
drop table live;
