-- A profile that lists metrics takes those alone, unless it says otherwise; profiles that exist stay as they are.
alter table tel_device_profile alter column other_metrics set default false;
comment on column tel_device_profile.other_metrics is 'Whether devices may send metrics that are not listed; a profile that lists none restricts none.';
