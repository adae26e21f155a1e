# Makes tests/oracle/deseq2/airway-{condition,site}.csv.gz and size-factors.csv: what R's DESeq2 says about airway.
#
# Run from the root of the checkout:   Rscript tests/oracle/make_deseq2_table.R
# It needs Debian's r-bioc-deseq2 (the committed tables: DESeq2 1.38.3 on R 4.2.2, Debian 12). The tests don't need R.
#
# Counts, runs and levels are those that ship with secirls (secirls/inputs/data/airway.csv.gz, secirls/inputs/datasets.py). Size
# factors and dispersions are R's own defaults. The Wald test is nbinomWaldTest without prior; betaTol is as
# tight as the deviance's rounding allows, because at R's default of 1e-8 beta is up to 5e-3 (log2) off its own fixed point.
# Genes with a base mean below 10 are left out: the tests judge none of them. Numbers that are given to
# secirls (size factors, dispersions) are written with 17 and 14 significant digits, those compared with it with fewer.

suppressMessages(library(DESeq2))

counts <- as.matrix(read.csv("secirls/inputs/data/airway.csv.gz", row.names = 1, check.names = FALSE))
samples <- data.frame(
  row.names = c("SRR1039508", "SRR1039509", "SRR1039512", "SRR1039513",
                "SRR1039516", "SRR1039517", "SRR1039520", "SRR1039521"),
  site = factor(rep(c("N61311", "N052611", "N080611", "N061011"), each = 2),
                levels = c("N052611", "N061011", "N080611", "N61311")),
  condition = factor(rep(c("untrt", "trt"), 4), levels = c("untrt", "trt"))
)
counts <- counts[, rownames(samples)]

table_of <- function(design, file) {
  data <- DESeqDataSetFromMatrix(counts, samples, design)
  data <- estimateDispersions(estimateSizeFactors(data), quiet = TRUE)
  data <- nbinomWaldTest(data, betaPrior = FALSE, betaTol = 1e-12, maxit = 1000, quiet = TRUE)
  found <- results(data, independentFiltering = FALSE, cooksCutoff = FALSE)
  extra <- mcols(data)
  keep <- which(found$baseMean >= 10)
  short <- function(x, digits) formatC(x[keep], digits = digits, format = "g", width = -1)
  rows <- data.frame(
    gene = rownames(found)[keep], baseMean = short(found$baseMean, 8), dispersion = short(dispersions(data), 14),
    log2FoldChange = short(found$log2FoldChange, 11), lfcSE = short(found$lfcSE, 9), stat = short(found$stat, 8),
    pvalue = short(found$pvalue, 7), betaConv = as.integer(extra$betaConv[keep]), betaIter = extra$betaIter[keep]
  )
  out <- gzfile(file, "wb", compression = 9)
  write.csv(rows, out, row.names = FALSE, quote = FALSE)
  close(out)
  data
}

data <- table_of(~ condition, "tests/oracle/deseq2/airway-condition.csv.gz")
invisible(table_of(~ site + condition, "tests/oracle/deseq2/airway-site.csv.gz"))
factors <- data.frame(sample = colnames(data), size_factor = formatC(sizeFactors(data), digits = 17, format = "g"))
write.csv(factors, "tests/oracle/deseq2/size-factors.csv", row.names = FALSE, quote = FALSE)
cat(R.version.string, "DESeq2", as.character(packageVersion("DESeq2")), "\n")
