-- What dashboards ask all the time is summed while votes are counted: of five
-- million votes the cells are millions of rows, these sums tens of thousands.

-- +goose Up
-- Totals are by placement: their sums are what a specialist has, and what an
-- institution or a branch has.
drop table totals;
create table totals (
    campaign   int    not null,
    placement  bigint not null,
    specialist bigint not null,
    votes      bigint not null,
    voters     bigint not null,
    primary key (campaign, placement)
) with (fillfactor = 50);
comment on table totals is 'what specialists got at each of their placements';
comment on column totals.specialist is 'whose placement it is, so that standings need no join';
insert into totals
select campaign, placement, specialist, sum(votes), coalesce(sum(votes) filter (where identity <> 'none'), 0)
from cells join channels using (campaign, channel) join placements using (campaign, placement)
group by campaign, placement, specialist;

create table hours (
    campaign int         not null,
    hour     timestamptz not null,
    channel  smallint    not null,
    local    timestamp   not null,
    votes    bigint      not null,
    primary key (campaign, hour, channel)
) with (fillfactor = 50);
comment on table hours is 'votes by channel and the hour in which they were cast';
comment on column hours.local is 'what clocks show at the beginning of the hour in the campaign''s time zone';
insert into hours
select campaign, hour, channel, hour at time zone timezone, sum(cells.votes)
from cells join campaigns using (campaign)
group by campaign, hour, channel, timezone;

alter table campaigns add column opens_on date;
update campaigns set opens_on = (opens_at at time zone timezone)::date;
alter table campaigns alter column opens_on set not null;
comment on column campaigns.opens_on is 'the day of opens_at in the campaign''s time zone';

-- Of what was counted before nobody has kept which event was the last one. The
-- position is on the safe side: nothing is called public that is not.
alter table positions add column changed bigint;
update positions set changed = sequence;
alter table positions alter column changed set not null;
comment on column positions.changed is 'the results are those of this event: none after it changes them';

create index specialists_merged on specialists (campaign, merged_into) where merged_into <> '';

-- Both are of one campaign, by its key: a condition on a view would not get
-- through the recursion.

-- +goose StatementBegin
create function standings(of_campaign int)
returns table (specialist bigint, id text, name text, "position" text, institution text, branch text, region text,
               last bigint, withdrawn boolean, votes bigint, voters bigint)
language sql stable
begin atomic
    with recursive merged (specialist, id, counts_for) as (
        select s.specialist, s.id, r.specialist
        from specialists s join specialists r on r.campaign = s.campaign and r.id = s.merged_into
        where s.campaign = $1 and s.merged_into <> '' and r.merged_into = ''
        union all
        select s.specialist, s.id, m.counts_for
        from specialists s join merged m on m.id = s.merged_into
        where s.campaign = $1 and s.merged_into <> ''
    ), sums as (
        select coalesce(m.counts_for, t.specialist) as counts_for, sum(t.votes)::bigint as votes, sum(t.voters)::bigint as voters
        from totals t left join merged m on m.specialist = t.specialist
        where t.campaign = $1
        group by 1
    )
    select s.specialist, s.id, s.name, s."position", s.institution, s.branch, s.region,
           s.last, s.withdrawn, coalesce(sums.votes, 0), coalesce(sums.voters, 0)
    from specialists s left join sums on sums.counts_for = s.specialist
    where s.campaign = $1 and s.merged_into = '';
end;
-- +goose StatementEnd
comment on function standings is 'what each specialist of a campaign has, with the votes for those who were merged into them';

-- +goose StatementBegin
create function places(of_campaign int)
returns table (institution text, branch text, region text, votes bigint)
language sql stable
begin atomic
    select p.institution, p.branch, p.region, t.votes
    from totals t join placements p on p.campaign = t.campaign and p.placement = t.placement
    where t.campaign = $1 and t.votes <> 0
    union all
    select s.institution, s.branch, s.region, 0
    from specialists s
    where s.campaign = $1 and not s.withdrawn and s.merged_into = '';
end;
-- +goose StatementEnd
comment on function places is 'votes by place, and a row without votes for each place of today: they are to be summed';

-- +goose Down
drop function standings, places;
drop index specialists_merged;
alter table positions drop column changed;
alter table campaigns drop column opens_on;
drop table hours;
alter table totals rename to by_placement;
alter index totals_pkey rename to by_placement_pkey;
create table totals (
    campaign   int    not null,
    specialist bigint not null,
    votes      bigint not null,
    voters     bigint not null,
    primary key (campaign, specialist)
) with (fillfactor = 50);
insert into totals
select campaign, specialist, sum(votes), sum(voters)
from by_placement
group by campaign, specialist;
drop table by_placement;
