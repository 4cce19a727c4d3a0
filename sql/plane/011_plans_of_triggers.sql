/* A trigger's statements are planned once a connection, for as many rows as its first call was given. Before and after of
   one row were joined each with each; ten thousand rows in the same connection were then, too. */
alter function plane.audit() set enable_nestloop to off;
