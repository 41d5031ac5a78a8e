module github.com/peald/peald/deploy/checks

go 1.26.0
