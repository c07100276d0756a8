# make_cluster(): a cluster for package parallel.

test_that("it does what parallel's own clusters do", {
  cl <- no_hang(make_cluster(2))
  withr::defer(stop_cluster(cl))
  expect_s3_class(cl, c("miraiCluster", "cluster"), exact = TRUE)
  expect_length(cl, 2L)
  expect_output(print(cl), "< miraiCluster | ID: .* nodes: 2 active: TRUE >")
  expect_output(print(cl[[2]]), "< miraiNode | node: 2")
  expect_identical(unlist(parallel::parLapply(cl, 1:10, function(x) x^2)), (1:10)^2)
  expect_identical(parallel::parSapply(cl, c(a = 1, b = 2), function(x) x), c(a = 1, b = 2))
  expect_identical(parallel::clusterApplyLB(cl, 1:5, function(i) i), as.list(1:5))
  expect_identical(parallel::clusterMap(cl, function(a, b) a + b, 1:3, 4:6), list(5L, 7L, 9L))
  expect_length(unique(unlist(parallel::clusterCall(cl, Sys.getpid))), 2L)
  value <- 5
  parallel::clusterExport(cl, "value", environment())
  expect_identical(unlist(parallel::clusterEvalQ(cl, value)), c(5, 5))
  expect_identical(nrow(status(cl)$daemons), 2L)
})

test_that("a node keeps its state, and only its own", {
  cl <- no_hang(make_cluster(2))
  withr::defer(stop_cluster(cl))
  parallel::clusterEvalQ(cl[1], mine <- TRUE)
  expect_identical(unlist(parallel::clusterEvalQ(cl, exists("mine"))), c(TRUE, FALSE))
  parallel::clusterSetRNGStream(cl, 42)
  ours <- parallel::clusterCall(cl, function() runif(3))
  psock <- parallel::makePSOCKcluster(2)
  withr::defer(parallel::stopCluster(psock))
  parallel::clusterSetRNGStream(psock, 42)
  expect_identical(ours, parallel::clusterCall(psock, function() runif(3)))
})

test_that("errors are reported as parallel reports them", {
  cl <- no_hang(make_cluster(2))
  withr::defer(stop_cluster(cl))
  expect_error(parallel::clusterApply(cl, 1:2, function(i) if (i == 2) stop("bad") else i),
               "one node produced an error: bad", fixed = TRUE)
  expect_error(parallel::clusterCall(cl[1], quit, "no"), "Connection reset")
})

test_that("stopping", {
  cl <- make_cluster(1)
  parallel::stopCluster(cl)
  expect_output(print(cl), "active: FALSE")
  expect_error(parallel::clusterCall(cl, identity, 1), "the cluster of this node was stopped")
  expect_null(stop_cluster(cl))
  expect_error(stop_cluster(5), "'cl' must be a cluster made by make_cluster(), not 5", fixed = TRUE)
  expect_error(make_cluster(0), "'n' is 0", fixed = TRUE)
  expect_error(make_cluster(), "'n' is missing", fixed = TRUE)
})

test_that("R's own makeCluster() knows the type where it can", {
  skip_if_not(exists("registerClusterType", asNamespace("parallel"), inherits = FALSE),
              "this R has no registerClusterType()")
  cl <- parallel::makeCluster(1, type = "MIRAI")
  expect_s3_class(cl, "miraiCluster")
  parallel::stopCluster(cl)
})
