package sysprep

// histories are what shells and programs keep of what people typed, looked for and
// opened, in their homes.
var histories = []string{
	".ash_history", ".sh_history", ".ksh_history", ".mksh_history", ".history", ".local/share/fish/fish_history",
	".python_history", ".ipython/profile_default/history.sqlite", ".node_repl_history", ".irb_history", ".irb-history", ".pry_history",
	".local/share/pry/pry_history", ".php_history", ".Rhistory", ".octave_hist", ".gdb_history", ".scapy_history", ".tig_history",
	".mysql_history", ".mariadb_history", ".mycli-history", ".psql_history", ".sqlite_history", ".rediscli_history", ".dbshell",
	".mongodb/mongosh/mongosh_repl_history", ".lesshst", ".local/state/lesshst", ".viminfo", ".vim/.netrwhist",
	".local/share/nvim/shada", ".local/state/nvim/shada", ".nano_history", ".nano/search_history", ".local/share/nano/search_history",
	".wget-hsts", ".local/share/wget-hsts", ".local/share/lftp/rl_history", ".local/share/recently-used.xbel", ".recently-used", ".recently-used.xbel",
	".sudo_as_admin_successful", ".cache/motd.legal-displayed",
}

// shellHistories removes them: passwords are typed into the wrong window.
func shellHistories(t *task) error { return t.removeInHomes(histories...) }
