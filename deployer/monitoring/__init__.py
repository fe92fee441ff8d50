"""Files for Prometheus and Grafana: what to scrape, when to wake somebody, what to look at."""
