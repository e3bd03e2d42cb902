token=${token} ${env("TOKEN", "7")}
