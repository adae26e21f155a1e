"""Whether estimates are those of R's DESeq2, and what other ways to them cost."""
