module keyferry.dev/webapp

go 1.26
