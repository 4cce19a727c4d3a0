-- A document's lines change together and are read together in its history.
call plane.audited_as_lines('erp_purchase_order_line', 'order_id');
