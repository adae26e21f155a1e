"""One site: what it holds, its own rules, memory and keys; and the helpers' desk."""
