wrk.method="HEAD"
