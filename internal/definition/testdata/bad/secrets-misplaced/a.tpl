/${token}
