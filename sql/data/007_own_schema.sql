/* What runs as the owner looks where it was made, which in a tenant's own schema is not `public`. */
do $$
begin
  execute format('alter function erp_apply_moves() set search_path = %I, pg_temp', current_schema());
end
$$;
