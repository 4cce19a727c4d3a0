-- Metrics that are computed from other metrics of the same device, when they are asked for.
create table tel_derived_metric (
  id uuid primary key,
  tenant_id uuid not null,
  code text not null check (length(code) between 1 and 64),
  unit text check (length(unit) between 1 and 32),
  expression text not null check (length(expression) between 1 and 500),
  max_age_seconds int not null default 0 check (max_age_seconds between 0 and 86400),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
comment on column tel_derived_metric.max_age_seconds is 'How old the latest reading of an input may be; 0: all inputs have a reading of the same time.';
create unique index tel_derived_metric__code_key on tel_derived_metric (tenant_id, code) where deleted_at is null;
create index tel_derived_metric_recent on tel_derived_metric (tenant_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('tel_derived_metric');
call plane.audited('tel_derived_metric');

-- Arithmetic that gives null where double precision has no value, and never an error. Results lie within ±1e150, and what is
-- nearer to 0 than 1e-150 is 0, so that sum, difference, product and quotient of two of them neither overflow nor underflow.
create function plane.in_range(x float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  if abs(x) <= '1e150'::float8 then
    return case when abs(x) < '1e-150'::float8 then 0 else x end;
  end if;
  return null;
end
$$;

create function plane.exp_or_null(x float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  return case when x > 345 then null when x < -345 then 0 else exp(x) end;
end
$$;

create function plane.ln_or_null(x float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  return case when x > 0 then plane.in_range(ln(x)) end;
end
$$;

create function plane.log10_or_null(x float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  return case when x > 0 then plane.in_range(log10(x)) end;
end
$$;

create function plane.sqrt_or_null(x float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  return case when x >= 0 then sqrt(x) end;
end
$$;

/* A power of a negative number has a whole exponent; 0 has none below 0. The logarithm tells whether it is in range. */
create function plane.power_or_null(x float8, y float8) returns float8 language plpgsql immutable strict parallel safe as $$
declare
  magnitude float8;
begin
  if x = 0 then
    return case when y > 0 then 0 when y = 0 then 1 end;
  end if;
  if x < 0 and y <> floor(y) then
    return null;
  end if;
  magnitude := plane.in_range(plane.in_range(ln(abs(x))) * y);
  return case when magnitude > 345 then null when magnitude < -345 then 0 when magnitude is not null then power(x, y) end;
end
$$;

create function plane.least_or_null(x float8, y float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  return least(x, y);
end
$$;

create function plane.greatest_or_null(x float8, y float8) returns float8 language plpgsql immutable strict parallel safe as $$
begin
  return greatest(x, y);
end
$$;
