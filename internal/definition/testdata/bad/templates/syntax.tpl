line one
${ %{ if }
