/* Lets go of what is told of refused readings; for the timed job. */
create function plane.forget_rejections(days int) returns void
language sql security definer set search_path = public, pg_temp as $$
  delete from tel_rejection where hour < now() - make_interval(days => days)
$$;
revoke execute on function plane.forget_rejections from public;
grant execute on function plane.forget_rejections to tenantry_app;
