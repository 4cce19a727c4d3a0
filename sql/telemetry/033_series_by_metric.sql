-- A metric with series keeps its unit: asked with each change of a metric.
create index tel_series_metric on tel_series (tenant_id, metric_id);
